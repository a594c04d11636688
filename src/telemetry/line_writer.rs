//! Lines on their way to standard output. Whoever writes one copies it and goes on; a thread of its own
//! writes what has come together meanwhile at once. Waking that thread, and a system call, for each
//! line would cost a request more than everything else the log does.

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How long lines come together before they are written.
const PAUSE: Duration = Duration::from_millis(20);
/// Bytes that may wait for a slow reader; what comes then is dropped, not the request.
const MOST: usize = 16 * 1024 * 1024;
/// What the last lines get when the program ends: standard output may be a pipe that nobody reads.
const LAST: Duration = Duration::from_secs(2);
/// A buffer that a burst made larger than this is given back.
const KEPT: usize = 1024 * 1024;

/// Takes whole lines. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LineWriter(Arc<Queue>);

/// Ends the thread when dropped, after it has written everything, if that can be done in a moment.
#[derive(Debug)]
pub(super) struct Worker {
    queue: Arc<Queue>,
    /// Says nothing, and ends with the thread.
    ended: Receiver<Infallible>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Something waits, or it is over.
    news: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    text: Vec<u8>,
    /// Lines that found no room since the last one that did.
    dropped: u64,
    /// The thread has nothing to do and must be woken.
    asleep: bool,
    over: bool,
}

impl LineWriter {
    /// A writer, and the thread behind it that writes to `sink`.
    pub(super) fn start(sink: impl Write + Send + 'static) -> io::Result<(Self, Worker)> {
        let queue = Arc::new(Queue::default());
        let (theirs, (lives, ended)) = (Arc::clone(&queue), channel());
        std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            theirs.work(sink);
            drop(lives);
        })?;
        Ok((Self(Arc::clone(&queue)), Worker { queue, ended }))
    }
}

impl LineWriter {
    /// One whole line; never fails and never waits for anybody.
    pub(super) fn append(&self, line: &[u8]) {
        let mut waiting = self.0.waiting.lock();
        if waiting.text.len() + line.len() > MOST {
            waiting.dropped += 1;
            return;
        }
        waiting.text.extend_from_slice(line);
        let asleep = std::mem::take(&mut waiting.asleep);
        // Woken under the lock, it would have to wait for it at once.
        drop(waiting);
        if asleep {
            self.0.news.notify_one();
        }
    }
}

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.append(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Queue {
    fn work(&self, mut sink: impl Write) {
        let (mut lines, mut lost, mut torn) = (Vec::new(), 0, false);
        while let Some(dropped) = self.take(&mut lines) {
            lost += dropped;
            match put(&mut sink, &lines, &mut torn) {
                // A reader that is gone, or a full disk, must not end the program.
                more @ 1.. => lost += more,
                0 if lost > 0 => {
                    let told = "log lines were lost: standard output was read too slowly, or its disk was full";
                    let _ = writeln!(io::stderr(), "{lost} {told}");
                    lost = 0;
                }
                0 => {}
            }
            lines.clear();
            lines.shrink_to(KEPT);
            std::thread::sleep(PAUSE);
        }
    }

    /// Swaps what waits into `lines`, once there is something, and says how many lines found no room; `None` when it is
    /// over and all is taken.
    fn take(&self, lines: &mut Vec<u8>) -> Option<u64> {
        let mut waiting = self.waiting.lock();
        while waiting.text.is_empty() {
            if waiting.over {
                return None;
            }
            waiting.asleep = true;
            self.news.wait(&mut waiting);
        }
        std::mem::swap(&mut waiting.text, lines);
        Some(std::mem::take(&mut waiting.dropped))
    }
}

/// Writes lines as far as that goes; how many did not arrive whole. `torn`: the last one written has no end yet, and the
/// next must not be read as its rest.
fn put(sink: &mut impl Write, lines: &[u8], torn: &mut bool) -> u64 {
    let mut rest = lines;
    if *torn && sink.write_all(b"\n").is_err() {
        return newlines(lines);
    }
    *torn = false;
    while !rest.is_empty() {
        match sink.write(rest) {
            Ok(written @ 1..) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Whoever shares it with us may have made it so (fcntl(2): O_NONBLOCK).
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
            Ok(0) | Err(_) => {
                *torn = lines.strip_suffix(rest).and_then(|written| written.last()).is_some_and(|last| *last != b'\n');
                return newlines(rest);
            }
        }
    }
    0
}

fn newlines(text: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', text).count() as u64
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.queue.waiting.lock().over = true;
        self.queue.news.notify_one();
        let _ = self.ended.recv_timeout(LAST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was written, call by call.
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_arrives_whole_and_in_order_with_few_writes() {
        let sink = Sink::default();
        let (writer, worker) = LineWriter::start(sink.clone()).unwrap();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let mut writer = writer.clone();
                std::thread::spawn(move || {
                    for line in 0..1_000 {
                        writer.write_all(format!("{thread} {line:04}\n").as_bytes()).unwrap();
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        drop(worker);
        let calls = sink.0.lock();
        let text = String::from_utf8(calls.concat()).unwrap();
        for thread in 0..4 {
            let own: Vec<_> = text.lines().filter(|line| line.starts_with(&format!("{thread} "))).collect();
            let expected: Vec<_> = (0..1_000).map(|line| format!("{thread} {line:04}")).collect();
            assert_eq!(own, expected);
        }
        assert!(calls.len() < 2_000, "{} writes for 4000 lines", calls.len());
    }

    /// A pipe that nobody reads.
    struct Full(std::sync::mpsc::Receiver<Infallible>);

    impl Write for Full {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(0)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A disk with room for some bytes.
    struct Disk {
        room: usize,
        text: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.room);
            if fits == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= fits;
            self.text.extend_from_slice(&bytes[..fits]);
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_full_disk_did_not_take_is_counted_and_the_next_line_begins_anew() {
        let (mut disk, mut torn) = (Disk { room: 7, text: Vec::new() }, false);
        assert_eq!(put(&mut disk, b"one\ntwo\nthree\n", &mut torn), 2, "the half of `two` is no line");
        assert_eq!(put(&mut disk, b"four\n", &mut torn), 1, "nothing fits");
        disk.room = 100;
        assert_eq!(put(&mut disk, b"five\n", &mut torn), 0);
        assert_eq!(put(&mut disk, b"six\n", &mut torn), 0);
        assert_eq!(str::from_utf8(&disk.text), Ok("one\ntwo\nfive\nsix\n"));
        disk.room = 4;
        assert_eq!(put(&mut disk, b"abc\ndef\n", &mut torn), 1);
        assert!(!torn, "it ended where a line ends");
    }

    #[test]
    fn the_end_does_not_wait_for_a_reader_that_is_none() {
        let (open, nobody) = channel();
        let (mut writer, worker) = LineWriter::start(Full(nobody)).unwrap();
        writer.write_all(b"a line\n").unwrap();
        let (over, dropped) = channel();
        std::thread::spawn(move || {
            drop(worker);
            over.send(())
        });
        dropped.recv_timeout(LAST * 10).expect("it ends");
        drop::<std::sync::mpsc::Sender<Infallible>>(open);
    }
}

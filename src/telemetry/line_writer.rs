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
        let mut lines = Vec::new();
        while self.take(&mut lines) {
            // A reader that is gone must not end the program.
            let _ = sink.write_all(&lines).and_then(|()| sink.flush());
            lines.clear();
            lines.shrink_to(KEPT);
            std::thread::sleep(PAUSE);
        }
    }

    /// Swaps what waits into `lines`, once there is something; `false` when it is over and all is taken.
    fn take(&self, lines: &mut Vec<u8>) -> bool {
        let mut waiting = self.waiting.lock();
        while waiting.text.is_empty() {
            if waiting.over {
                return false;
            }
            waiting.asleep = true;
            self.news.wait(&mut waiting);
        }
        std::mem::swap(&mut waiting.text, lines);
        let dropped = std::mem::take(&mut waiting.dropped);
        drop(waiting);
        if dropped > 0 {
            eprintln!("{dropped} log lines were dropped: standard output is read too slowly");
        }
        true
    }
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

//! Signals that come before the server hears them itself. Whatever a start waits for (a Redis that does not answer,
//! the sockets of another process), SIGTERM and SIGINT end it at once, and SIGHUP does not: it is kept for the one
//! who reloads. A signal belongs to the process, so there is one of this.

use std::io::{self, IsTerminal as _, stdin};
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

static HUNG_UP: AtomicBool = AtomicBool::new(false);
static HEARD: Notify = Notify::const_new();

/// Hears from now on, on a thread of its own, until [`heard_elsewhere`].
pub fn hear_signals() -> io::Result<()> {
    let (ready, begun) = sync_channel(1);
    thread::Builder::new().name("starting".to_owned()).spawn(move || {
        let heard = Builder::new_current_thread().enable_io().build().and_then(|runtime| {
            runtime.block_on(hear(|| {
                let _ = ready.send(Ok(()));
            }))
        });
        if let Err(error) = heard {
            let _ = ready.send(Err(error));
        }
    })?;
    begun.recv().unwrap_or_else(|_ended| Err(io::Error::other("the thread for signals has ended")))
}

async fn hear(ready: impl FnOnce()) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let attended = stdin().is_terminal();
    ready();
    loop {
        tokio::select! {
            _ = terminate.recv() => exit(0),
            _ = interrupt.recv() => exit(0),
            // Nobody could stop us any more.
            _ = hang_up.recv() => if attended && !stdin().is_terminal() { exit(0) } else {
                HUNG_UP.store(true, Ordering::SeqCst);
            },
            () = HEARD.notified() => return Ok(()),
        }
    }
}

/// The server hears signals itself now.
pub(super) fn heard_elsewhere() {
    HEARD.notify_one();
}

/// Whether there was a SIGHUP that nobody has answered yet.
pub(super) fn take_hangup() -> bool {
    HUNG_UP.swap(false, Ordering::SeqCst)
}

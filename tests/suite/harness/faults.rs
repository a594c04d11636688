//! What can be wrong between two programs: a way through that delays, swallows, garbles or cuts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// What happens to what comes through from now on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    None,
    /// Accepted, never delivered, as long as it lasts.
    BlackHole,
    /// Answers come so much later.
    Late(Duration),
    /// One of so many pieces of answers has one wrong byte.
    Garbled(u32),
}

/// A way through to one address. Ends with the runtime of the test.
pub(crate) struct Way {
    /// Its own port on 127.0.0.1.
    pub(crate) port: u16,
    state: Arc<State>,
}

struct State {
    fault: Mutex<Fault>,
    /// Grows when every connection is to be cut.
    cuts: AtomicU64,
    /// Pieces that were garbled.
    garbled: AtomicU64,
}

impl State {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }
}

impl Way {
    /// To that port on 127.0.0.1.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state =
            Arc::new(State { fault: Mutex::new(Fault::None), cuts: AtomicU64::new(0), garbled: AtomicU64::new(0) });
        let way = Self { port: listener.local_addr().unwrap().port(), state: Arc::clone(&state) };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, port, Arc::clone(&state)));
            }
        });
        way
    }

    /// From now on, for all connections.
    pub(crate) fn set(&self, fault: Fault) {
        *self.state.fault.lock().unwrap() = fault;
    }

    /// Resets every connection.
    pub(crate) fn cut(&self) {
        self.state.cuts.fetch_add(1, Ordering::SeqCst);
    }

    /// Pieces that were garbled so far.
    pub(crate) fn garbled(&self) -> u64 {
        self.state.garbled.load(Ordering::SeqCst)
    }
}

async fn carry(client: TcpStream, port: u16, state: Arc<State>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap();
        // Closing is then a reset.
        stream.set_zero_linger().unwrap();
    }
    let since = state.cuts.load(Ordering::SeqCst);
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let cut = async {
        while state.cuts.load(Ordering::SeqCst) == since {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = pass(from_client, to_server, &state, false) => {}
        () = pass(from_server, to_client, &state, true) => {}
        () = cut => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: &State, answers: bool) {
    let (pieces, mut waiting) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let read = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let mut piece = buffer[..length].to_vec();
            let mut due = Instant::now();
            match state.fault() {
                Fault::Late(span) if answers => due += span,
                Fault::Garbled(of) if answers && fastrand::u32(0..of) == 0 => {
                    piece[fastrand::usize(0..length)] ^= 1 << fastrand::u32(0..8);
                    state.garbled.fetch_add(1, Ordering::SeqCst);
                }
                _ => {}
            }
            let _ = pieces.send((due, piece));
        }
    };
    let write = async {
        while let Some((due, piece)) = waiting.recv().await {
            tokio::time::sleep_until(due.into()).await;
            while state.fault() == Fault::BlackHole {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}

//! Who is waited for, service or client: the kernel knows it of the socket to the service (tcp(7)).

use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use pingora::protocols::l4::ext::get_tcp_info;

/// What came no longer ago than this has been waited for. The kernel counts in ticks of up to 10 ms.
const JUST_NOW_MS: u32 = 100;

/// Whether bytes wait in the socket that the service has no room for: it does not take what the client sends.
pub(super) fn is_clogged(socket: RawFd) -> bool {
    get_tcp_info(socket).is_ok_and(|info| info.tcpi_notsent_bytes > 0)
}

/// What lies in the socket and has not been read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unread {
    Bytes,
    /// Whoever reads, waits for the service.
    Nothing,
    /// The service has closed.
    End,
}

pub(super) fn unread(socket: RawFd) -> Unread {
    match recv(socket, &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
        Ok(0) => Unread::End,
        Ok(_) => Unread::Bytes,
        Err(Errno::EAGAIN | Errno::EINTR) => Unread::Nothing,
        Err(_broken) => Unread::End,
    }
}

/// Whether the answer waits for its client: bytes of it lie unread in the socket, or the last of them came a while
/// ago and were kept since. Else whoever waits, waits for the service. Asked while a piece of the answer is at hand.
#[must_use]
pub fn waits_for_client(socket: RawFd) -> bool {
    unread(socket) == Unread::Bytes || get_tcp_info(socket).is_ok_and(|info| info.tcpi_last_data_recv > JUST_NOW_MS)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn an_answer_waits_for_its_client_while_it_is_unread_or_old() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut service, _) = listener.accept().await.unwrap();
        let socket = ours.as_raw_fd();
        service.write_all(b"xy").await.unwrap();
        ours.read_exact(&mut [0]).await.unwrap();
        assert!(waits_for_client(socket), "one byte has not been read");
        ours.read_exact(&mut [0]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(waits_for_client(socket), "it was read long ago");
        service.write_all(b"z").await.unwrap();
        ours.read_exact(&mut [0]).await.unwrap();
        assert!(!waits_for_client(socket), "it has just come, and is all there is");
        assert!(!waits_for_client(-1));
    }
}

//! What the kernel keeps of an answer that is not read, because its client reads nothing: by itself up to 6 MiB a connection
//! (`tcp_rmem`, tcp(7)).
//!
//! With a small buffer the service cannot hand an answer over at once: on one machine the sending of the rest, and the
//! waking of who sends it, is our work, and half of what 1 MiB costs. So a connection is bounded from the start where a control group
//! ends the process for the kernel's buffers (`Call::bounded`); elsewhere once it brings an answer that is longer than what we
//! hold anyway.

use std::os::fd::RawFd;

use pingora::protocols::l4::ext::set_recv_buf;

/// Bytes. The kernel counts them twice (socket(7)), and takes no more than `net.core.rmem_max`, which is 208 KiB where nobody
/// changed it.
pub(super) const UNREAD: u32 = 256 * 1024;

/// Bounds what is kept of what comes from here on. What has come stays: some MiB on a connection that was used before, of which
/// there are as many as the engine keeps for later.
pub fn bound_unread(socket: RawFd) {
    if let Err(error) = set_recv_buf(socket, UNREAD as usize) {
        tracing::debug!(%error, "SO_RCVBUF");
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd as _;

    use pingora::protocols::l4::ext::get_recv_buf;

    use super::*;

    #[test]
    fn a_socket_is_bounded_while_it_is_in_use() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        set_recv_buf(stream.as_raw_fd(), 16 * 1024).unwrap();
        bound_unread(stream.as_raw_fd());
        let kept = get_recv_buf(stream.as_raw_fd()).unwrap();
        assert!((64 * 1024..=2 * UNREAD as usize).contains(&kept), "{kept}");
        bound_unread(-1);
    }
}

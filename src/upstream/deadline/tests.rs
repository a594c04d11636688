//! Sockets that are shut in time, and those that are not.

use std::os::fd::AsRawFd;

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::*;

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (stream, listener.accept().await.unwrap().0)
}

fn in_millis(millis: u64) -> Instant {
    Instant::now() + Duration::from_millis(millis)
}

#[tokio::test]
async fn whoever_is_late_is_shut_and_nobody_else() {
    let ((mut late, _a), (kept, mut kept_peer), (patient, _b)) = (pair().await, pair().await, pair().await);
    // The earlier deadline comes second.
    let long = Deadline::set(patient.as_raw_fd(), in_millis(600_000)).unwrap();
    let short = Deadline::set(late.as_raw_fd(), in_millis(50)).unwrap();
    let answered = Deadline::set(kept.as_raw_fd(), in_millis(50)).unwrap();
    drop(answered);
    assert_eq!(late.read(&mut [0]).await.unwrap(), 0, "shut");
    assert_eq!((short.passed(), long.passed()), (Some(Turn::Service), None));
    kept.try_write(b"x").unwrap();
    assert_eq!(kept_peer.read(&mut [0]).await.unwrap(), 1, "this one goes on");
    drop((short, long));
    AWAITED.with_borrow(|awaited| assert!(awaited.waits.is_empty()));
    // The list is watched again after it was empty.
    let (mut next, _c) = pair().await;
    let _again = Deadline::set(next.as_raw_fd(), in_millis(50)).unwrap();
    assert_eq!(next.read(&mut [0]).await.unwrap(), 0);
}

async fn end_of(deadline: &Deadline) -> Turn {
    loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if let Some(late) = deadline.passed() {
            return late;
        }
    }
}

#[tokio::test]
async fn a_late_upload_is_the_clients_unless_the_service_takes_nothing() {
    const PAUSE: Duration = Duration::from_millis(100);
    let ((idle, _a), (full, mut reader)) = (pair().await, pair().await);
    let of = |stream: &TcpStream, pause| Deadline::of_upload(stream.as_raw_fd(), pause, PAUSE * 10).unwrap();
    let (begun, client) = (Instant::now(), of(&idle, Some(PAUSE)));
    assert_eq!(end_of(&client).await, Turn::Client);
    assert!(begun.elapsed() < PAUSE * 9);

    let mut sent = 0;
    while let Ok(more) = full.try_write(&[0; 8192]) {
        sent += more;
    }
    let service = of(&full, Some(PAUSE));
    tokio::time::sleep(PAUSE * 3).await;
    assert!(service.passed().is_none() && service.excuses(), "the service has more time");
    drop(service);
    let service = of(&full, Some(PAUSE));
    tokio::time::sleep(PAUSE * 2).await;
    let mut into = vec![0; sent];
    reader.read_exact(&mut into).await.unwrap();
    assert_eq!(end_of(&service).await, Turn::Client, "it has taken everything, and nothing more came");
    drop((client, service));
    AWAITED.with_borrow(|awaited| assert!(awaited.waits.is_empty() && awaited.moved.is_empty()));
}

#[tokio::test]
async fn a_service_that_takes_nothing_is_shut_and_blamed() {
    let (full, _reader) = pair().await;
    while full.try_write(&[0; 8192]).is_ok() {}
    for pause in [None, Some(Duration::from_millis(20))] {
        let (begun, timeout) = (Instant::now(), Duration::from_millis(200));
        let service = Deadline::of_upload(full.as_raw_fd(), pause, timeout).unwrap();
        assert_eq!(end_of(&service).await, Turn::Service);
        assert!(begun.elapsed() >= timeout);
        drop(service);
        AWAITED.with_borrow(|awaited| assert!(awaited.waits.is_empty() && awaited.moved.is_empty()));
    }
    let (idle, _peer) = pair().await;
    let timed_elsewhere = Deadline::of_upload(idle.as_raw_fd(), None, Duration::from_millis(10)).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(timed_elsewhere.passed(), None);
    assert!(!timed_elsewhere.excuses(), "it was looked at, and nothing was clogged");
}

#[tokio::test]
async fn a_body_is_late_unless_it_waits_for_its_client_or_is_all_there() {
    let ((silent, _a), (unread, mut service), (closed, gone)) = (pair().await, pair().await, pair().await);
    let of = |stream: &TcpStream| {
        let mut deadline = Deadline::set(stream.as_raw_fd(), in_millis(50)).unwrap();
        deadline.begun(true);
        deadline
    };
    service.try_write(b"x").unwrap();
    drop(gone);
    let all = [of(&silent), of(&unread), of(&closed)];
    tokio::time::sleep(NEXT_LOOK * 3).await;
    assert_eq!(all.each_ref().map(Deadline::cut_short), [true, false, false]);
    service.try_write(b"y").unwrap();
    assert_eq!(unread.try_read(&mut [0; 9]).unwrap(), 2, "it goes on");
    tokio::time::sleep(NEXT_LOOK * 2).await;
    assert_eq!(service.read(&mut [0]).await.unwrap(), 0, "until the client has caught up");
    drop(all);
    AWAITED.with_borrow(|awaited| assert!(awaited.waits.is_empty() && awaited.moved.is_empty()));
}

#[tokio::test]
async fn a_socket_that_has_got_the_number_of_a_calls_is_left_alone() {
    let (call, one, mut other) = loop {
        let (gone, _a) = pair().await;
        let number = gone.as_raw_fd();
        let call = Deadline::set(number, in_millis(50)).unwrap().of_call();
        drop(gone);
        // Whoever opens one next gets the number: another test, perhaps.
        let (one, other) = pair().await;
        match number {
            number if number == one.as_raw_fd() => break (call, one, other),
            number if number == other.as_raw_fd() => break (call, other, one),
            _ => {}
        }
    };
    let (mut late, _b) = pair().await;
    let of_late = Deadline::set(late.as_raw_fd(), in_millis(100)).unwrap().of_call();
    assert_eq!(late.read(&mut [0]).await.unwrap(), 0, "a call that is late is shut");
    assert_eq!((of_late.passed(), call.passed()), (Some(Turn::Service), None));
    one.try_write(b"x").unwrap();
    assert_eq!(other.read(&mut [0]).await.unwrap(), 1, "nobody is late here");
    drop((call, of_late));
    AWAITED.with_borrow(|awaited| assert!(awaited.ends.is_empty() && awaited.moved.is_empty()));
}

#[tokio::test]
async fn what_has_no_descriptor_is_left_alone() {
    assert!(Deadline::set(-1, Instant::now()).is_none());
}

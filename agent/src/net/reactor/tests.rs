use std::future::poll_fn;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use smol::LocalExecutor;
use smol::future::FutureExt;

use super::*;

fn pair() -> (Source, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (Source::new(ours.into(), Reactor::current().unwrap()), theirs)
}

async fn read(source: &Source, room: usize) -> io::Result<Vec<u8>> {
    let mut buf = vec![0; room];
    let received = poll_fn(|cx| source.poll_read(cx, |io| Ok(recv(io, &mut *buf, RecvFlags::empty())?.0))).await?;
    if received < room {
        source.is_drained();
    }
    buf.truncate(received);
    Ok(buf)
}

async fn write_all(source: &Source, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        let sent = poll_fn(|cx| source.poll_write(cx, |io| Ok(send(io, data, SendFlags::NOSIGNAL)?))).await?;
        data = &data[sent..];
    }
    Ok(())
}

/// Runs the test in both ways in which a reactor is driven.
fn both(test: impl AsyncFn(&LocalExecutor<'_>)) {
    let executor = LocalExecutor::new();
    block_on(executor.run(test(&executor)));
    let driven = async {
        let reactor = Reactor::current().unwrap();
        let _drive = executor.spawn(async move { reactor.drive().await });
        test(&executor).await;
    };
    smol::block_on(executor.run(driven));
}

#[test]
fn a_wake_from_another_thread_ends_the_wait() {
    both(async |_| {
        for pause in [0, 0, 0, 1, 20] {
            let (sender, receiver) = smol::channel::bounded(1);
            let thread = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(pause));
                sender.send_blocking(pause).unwrap();
            });
            assert_eq!(receiver.recv().await, Ok(pause));
            thread.join().unwrap();
        }
    });
}

#[test]
fn no_wake_is_lost_when_threads_race() {
    let (to_other, from_us) = smol::channel::bounded::<u32>(1);
    let (to_us, from_other) = smol::channel::bounded::<u32>(1);
    let other = std::thread::spawn(move || {
        block_on(async {
            while let Ok(number) = from_us.recv().await {
                if to_us.send(number + 1).await.is_err() {
                    break;
                }
            }
        });
    });
    block_on(async {
        for number in 0..20_000 {
            to_other.send(number).await.unwrap();
            assert_eq!(from_other.recv().await, Ok(number + 1));
        }
    });
    drop(to_other);
    other.join().unwrap();
}

#[test]
fn timers_end_all_and_never_early() {
    both(async |executor| {
        let start = Instant::now();
        let ended = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = [60, 20, 40, 0]
            .into_iter()
            .map(|ms| {
                let ended = ended.clone();
                executor.spawn(async move {
                    let at = start + Duration::from_millis(ms);
                    Timer::new(Some(at)).unwrap().await;
                    assert!(Instant::now() >= at);
                    ended.borrow_mut().push(ms);
                })
            })
            .collect();
        let mut never = Timer::new(None).unwrap();
        assert!(smol::future::poll_once(&mut never).await.is_none());
        for task in tasks {
            task.await;
        }
        ended.borrow_mut().sort_unstable();
        assert_eq!(*ended.borrow(), [0, 20, 40, 60]);
        assert!(start.elapsed() < Duration::from_secs(3));
        assert_eq!(Reactor::current().unwrap().timers.borrow().first(), None);
    });
}

#[test]
fn a_timer_can_be_moved_and_dropped_while_it_waits() {
    both(async |_| {
        let start = Instant::now();
        let mut timer = Timer::new(Some(start + Duration::from_secs(3600))).unwrap();
        assert!(smol::future::poll_once(&mut timer).await.is_none());
        timer.set(Some(start + Duration::from_millis(30)));
        timer.await;
        assert!(start.elapsed() < Duration::from_secs(3));
        let mut dropped = Timer::new(Some(start + Duration::from_secs(3600))).unwrap();
        assert!(smol::future::poll_once(&mut dropped).await.is_none());
        drop(dropped);
        assert_eq!(Reactor::current().unwrap().timers.borrow().first(), None);
    });
}

#[test]
fn smols_own_timers_and_sockets_work_beside() {
    both(async |executor| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let task = executor.spawn(async move {
            let ours = Async::new(ours).unwrap();
            ours.read_with(|mut socket| socket.read(&mut [0; 8])).await.unwrap()
        });
        smol::Timer::after(Duration::from_millis(20)).await;
        theirs.write_all(b"four").unwrap();
        assert_eq!(task.await, 4);
        assert_eq!(smol::unblock(|| 7).await, 7);
    });
}

#[test]
fn many_sockets_each_get_what_is_theirs() {
    both(async |executor| {
        let mut others = Vec::new();
        let tasks: Vec<_> = (0..300u32)
            .map(|number| {
                let (source, theirs) = pair();
                others.push(theirs);
                executor.spawn(async move {
                    for round in 0..5u32 {
                        let received = read(&source, 64).await.unwrap();
                        assert_eq!(received, format!("{number} {round}").into_bytes());
                        write_all(&source, &received).await.unwrap();
                    }
                    assert_eq!(read(&source, 64).await.unwrap(), b"");
                })
            })
            .collect();
        let thread = std::thread::spawn(move || {
            for round in 0..5 {
                for (number, other) in others.iter_mut().enumerate().rev() {
                    other.write_all(format!("{number} {round}").as_bytes()).unwrap();
                }
                for (number, other) in others.iter_mut().enumerate() {
                    let mut buf = [0; 64];
                    let received = other.read(&mut buf).unwrap();
                    assert_eq!(&buf[..received], format!("{number} {round}").as_bytes());
                }
            }
        });
        for task in tasks {
            task.await;
        }
        thread.join().unwrap();
        assert_eq!(Reactor::current().unwrap().sources.borrow().count(), 0);
    });
}

#[test]
fn both_directions_wait_at_the_same_time() {
    both(async |_| {
        let (source, theirs) = pair();
        let length = 2_000_000;
        let (mut reads, mut writes) = (theirs.try_clone().unwrap(), theirs);
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            // Their first byte comes while we wait to write.
            writes.write_all(b"x").unwrap();
            let mut received = vec![0; length];
            reads.read_exact(&mut received).unwrap();
            writes.write_all(b"y").unwrap();
        });
        let data = vec![7; length];
        let reading = async { (read(&source, 64).await.unwrap(), read(&source, 64).await.unwrap()) };
        let (written, received) = smol::future::zip(write_all(&source, &data), reading).await;
        written.unwrap();
        assert_eq!(received, (b"x".to_vec(), b"y".to_vec()));
        thread.join().unwrap();
    });
}

#[test]
fn the_end_of_a_stream_is_seen_behind_its_last_bytes() {
    both(async |_| {
        for waits in [false, true] {
            let (source, mut theirs) = pair();
            if waits {
                assert!(smol::future::poll_once(read(&source, 64)).await.is_none());
            }
            theirs.write_all(b"last").unwrap();
            drop(theirs);
            assert_eq!(read(&source, 64).await.unwrap(), b"last");
            assert_eq!(read(&source, 64).await.unwrap(), b"");
            assert_eq!(read(&source, 64).await.unwrap(), b"");
            assert!(write_all(&source, b"nobody").await.is_err());
        }
    });
}

#[test]
fn more_than_one_read_takes_is_not_forgotten() {
    both(async |_| {
        let (source, mut theirs) = pair();
        theirs.write_all(b"abcdef").unwrap();
        for expected in ["ab", "cd", "ef"] {
            assert_eq!(read(&source, 2).await.unwrap(), expected.as_bytes());
        }
        let late = async {
            smol::Timer::after(Duration::from_millis(10)).await;
            theirs.write_all(b"g").unwrap();
            std::future::pending().await
        };
        assert_eq!(read(&source, 2).or(late).await.unwrap(), b"g");
    });
}

#[test]
fn an_event_of_a_closed_socket_reaches_nobody() {
    both(async |executor| {
        let reactor = Reactor::current().unwrap();
        for _ in 0..50 {
            let (first, mut to_first) = pair();
            assert!(smol::future::poll_once(read(&first, 8)).await.is_none());
            // The description lives on, so the kernel tells of it still.
            let copy = first.get_ref().try_clone().unwrap();
            drop(first);
            let (second, mut to_second) = pair();
            let task = executor.spawn(async move { read(&second, 8).await });
            smol::future::yield_now().await;
            to_first.write_all(b"old").unwrap();
            smol::Timer::after(Duration::from_micros(200)).await;
            to_second.write_all(b"new").unwrap();
            assert_eq!(task.await.unwrap(), b"new");
            drop(copy);
        }
        assert_eq!(reactor.sources.borrow().count(), 0);
        assert!(reactor.sources.borrow().get(12345).is_none());
    });
}

#[test]
fn busy_tasks_do_not_keep_sockets_waiting() {
    both(async |executor| {
        let (source, mut theirs) = pair();
        let _busy = executor.spawn(async {
            loop {
                smol::future::yield_now().await;
            }
        });
        assert!(smol::future::poll_once(read(&source, 8)).await.is_none());
        theirs.write_all(b"now").unwrap();
        assert_eq!(read(&source, 8).await.unwrap(), b"now");
        Timer::new(Some(Instant::now() + Duration::from_millis(5))).unwrap().await;
    });
}

#[test]
fn an_idle_thread_uses_no_time() {
    use nix::time::{ClockId, clock_gettime};
    let used = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
    let (source, _theirs) = pair();
    block_on(async {
        let before = used();
        let end = Timer::new(Some(Instant::now() + Duration::from_millis(200))).unwrap();
        let silent = async { drop(read(&source, 8).await) };
        silent.or(end).await;
        let spent = used() - before;
        assert!(spent < Duration::from_millis(20), "{spent:?}");
    });
}

#[test]
fn one_inside_the_other_works_too() {
    let result = block_on(async { block_on(async { smol::unblock(|| 5).await }) });
    assert_eq!(result, 5);
    let mut polled = 0;
    block_on(poll_fn(|cx| {
        polled += 1;
        cx.waker().wake_by_ref();
        if polled < 100 { Poll::Pending } else { Poll::Ready(()) }
    }));
}

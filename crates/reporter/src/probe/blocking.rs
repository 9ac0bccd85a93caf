//! Calls that may block for any time: file systems and name resolution.
//!
//! They run on threads of their own, because the reporter's one thread must not wait for a disk or a server
//! that is gone. Such a call cannot be cancelled. So that a repeated probe does not leave many stuck threads,
//! each probe has one call at a time: while a call is stuck, the next probe waits for it and times out too.

use std::{
    future, panic,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    sync::Semaphore,
    task::{self, JoinHandle},
};

/// Makes one blocking call at a time.
#[derive(Clone, Debug)]
pub(super) struct BlockingCalls(Arc<Semaphore>);

impl BlockingCalls {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    /// Makes a call when none is running, and waits for its result. The call can see when nobody waits any
    /// more, so a long one can end early.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Abandoned) -> T + Send + 'static,
    ) -> T {
        let Ok(permit) = Arc::clone(&self.0).acquire_owned().await else {
            // The semaphore is never closed.
            return future::pending().await;
        };
        let waiting = Waiting(Arc::default());
        let abandoned = Abandoned(Arc::clone(&waiting.0));
        let call = task::spawn_blocking(move || {
            let result = call(&abandoned);
            drop(permit);
            result
        });
        joined(call).await
    }
}

/// Returns the result of a task or call on another thread. Its panic becomes the caller's.
pub(super) async fn joined<T>(task: JoinHandle<T>) -> T {
    match task.await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => panic::resume_unwind(panic),
            // The process is stopping, and the caller with it.
            Err(_) => future::pending().await,
        },
    }
}

/// Returns whether nobody waits for a call's result any more.
pub(super) struct Abandoned(Arc<AtomicBool>);

impl Abandoned {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Somebody who waits, until dropped.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use std::{
        pin::pin,
        sync::{atomic::AtomicUsize, mpsc},
        task::Poll,
    };

    use super::*;

    #[tokio::test]
    async fn while_one_call_is_stuck_no_other_is_begun() {
        static BEGUN: AtomicUsize = AtomicUsize::new(0);
        let calls = BlockingCalls::new();
        let (begun, mut is_begun) = tokio::sync::mpsc::unbounded_channel();
        let (release, stuck) = mpsc::channel::<()>();
        let mut first = Box::pin(calls.run(move |abandoned| {
            BEGUN.fetch_add(1, Ordering::Relaxed);
            begun.send(()).unwrap();
            // Until the test ends the call.
            let _ = stuck.recv();
            assert!(abandoned.is_set());
        }));
        tokio::select! {
            () = &mut first => unreachable!("it is stuck"),
            _ = is_begun.recv() => {}
        }
        drop(first);

        let mut second = pin!(calls.run(|abandoned| {
            assert!(!abandoned.is_set());
            BEGUN.fetch_add(1, Ordering::Relaxed)
        }));
        let polled = future::poll_fn(|cx| Poll::Ready(second.as_mut().poll(cx).is_pending())).await;
        assert!(polled, "it waits for the first");
        assert_eq!(BEGUN.load(Ordering::Relaxed), 1);
        release.send(()).unwrap();
        assert_eq!(second.await, 1);
    }
}

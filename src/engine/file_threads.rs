//! Work on files that may block: opening, mapping, reading in, dropping.
//!
//! It has threads of its own, and each torrent a share of them, so that a file system that hangs holds up its own torrents
//! alone. Threads start as they are needed and end when they are not. What is written, and synced, is not done here.

use std::io;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

use crate::base::limits;

/// See the module. Dropping it waits for nobody.
#[derive(Debug)]
pub(super) struct FileThreads(Option<Runtime>);

/// A torrent's share of the threads; who finds it in use waits.
#[derive(Debug)]
pub(super) struct FileShare(Arc<Semaphore>);

impl Default for FileShare {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(limits::FILE_THREADS_EACH)))
    }
}

impl FileThreads {
    pub(super) fn new() -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(limits::FILE_THREADS_MAX)
            .thread_name("files")
            .thread_keep_alive(limits::FILE_THREAD_IDLE)
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Runs `work` when `share` has room; `None` when the session has ended.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        share: &FileShare,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let place = share.0.clone().acquire_owned().await.ok()?;
        let work = move || {
            let _place = place;
            work()
        };
        self.0.as_ref()?.spawn_blocking(work).await.ok()
    }

    /// Runs `work` that nobody waits for, and that is nobody's share.
    pub(super) fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        if let Some(runtime) = &self.0 {
            drop(runtime.spawn_blocking(work));
        }
    }
}

impl Drop for FileThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn work_that_hangs_holds_its_own_torrent_alone() {
        let threads = FileThreads::new().unwrap();
        let (hung, other) = (FileShare::default(), FileShare::default());
        let (release, gate) = mpsc::channel::<()>();
        let gate = Arc::new(std::sync::Mutex::new(gate));
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let hang = || {
                let gate = gate.clone();
                threads.run(&hung, move || gate.lock().unwrap().recv().is_err())
            };
            let mut hanging: Vec<_> = (0..=limits::FILE_THREADS_EACH).map(|_| Box::pin(hang())).collect();
            for work in &mut hanging {
                assert!(
                    std::future::poll_fn(|context| std::task::Poll::Ready(work.as_mut().poll(context)))
                        .await
                        .is_pending()
                );
            }
            assert_eq!(hung.0.available_permits(), 0);
            for i in 0..3 {
                assert_eq!(threads.run(&other, move || i).await, Some(i));
            }
            drop(release);
            for work in hanging {
                assert_eq!(work.await, Some(true));
            }
        });
    }
}

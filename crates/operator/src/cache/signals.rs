//! The watches of what rules require besides conditions. Each runs only while a rule needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, pin_mut};
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource};
use node_readiness_engine::signals::{
    CsiNode, PodSource, ResourceSlice, SignalEvent, SignalObject, SignalPod, Source,
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tracing::{info, warn};

use super::RuleSets;
use super::reflect::WATCH_TIMEOUT_SECONDS;
use crate::api_error;

/// The number of objects on one page of a list. A whole page is in memory, so this limits the memory of a list.
const PAGE: u32 = 100;

/// Why watches fail, by what they watch.
pub(crate) type SignalFailures = BTreeMap<Source, String>;

/// Starts and stops watches as rules need them.
pub(crate) struct SignalWatches<O> {
    pub(crate) client: Client,
    /// Whether pods are watched at all.
    pub(crate) pods: bool,
    /// Handles each event.
    pub(crate) observer: Arc<O>,
    pub(crate) failures: watch::Sender<SignalFailures>,
}

/// Handles the events of all watches.
pub(crate) trait SignalObserver: Send + Sync + 'static {
    /// Handles an event of the watch of `source`.
    fn observe(&self, source: &Source, event: SignalEvent<'_>);

    /// Removes what no rule needs any more.
    fn retain(&self, sources: &BTreeSet<Source>);
}

impl<O: SignalObserver> SignalWatches<O> {
    /// Runs the watches that the rules need.
    pub(crate) async fn run(self, mut rules: RuleSets) {
        let this = Arc::new(self);
        let mut running = BTreeMap::new();
        let mut tasks = JoinSet::new();
        while rules.changed().await.is_ok() {
            let Some(current) = rules.borrow_and_update().clone() else { continue };
            let mut wanted = current.sources();
            running.retain(|source, task: &mut AbortHandle| {
                let stays = wanted.contains(source);
                if !stays {
                    task.abort();
                }
                stays
            });
            this.observer.retain(&wanted);
            this.failures.send_if_modified(|failures| {
                let before = failures.len();
                failures.retain(|source, _| wanted.contains(source));
                failures.len() != before
            });
            if !this.pods {
                wanted.retain(|source| this.refuse_pods(source));
            }
            for source in wanted {
                running.entry(source).or_insert_with_key(|source| {
                    tasks.spawn(Arc::clone(&this).watch(source.clone()))
                });
            }
            while tasks.try_join_next().is_some() {}
        }
    }

    /// Returns whether a source is something else than pods.
    fn refuse_pods(&self, source: &Source) -> bool {
        let is_refused = matches!(source, Source::Pods(_));
        if is_refused {
            let cause = "the operator's flag --watch-pods=false excludes pods".to_owned();
            self.set_failure(source, Some(cause));
        }
        !is_refused
    }

    async fn watch(self: Arc<Self>, source: Source) {
        let config = watcher::Config::default().timeout(WATCH_TIMEOUT_SECONDS).page_size(PAGE);
        let client = self.client.clone();
        match &source {
            Source::Pods(PodSource { namespace, selector }) => {
                let pods = Api::<SignalPod>::namespaced(client, namespace);
                self.follow(pods, config.labels(selector), &source).await;
            }
            Source::CsiNodes => self.follow(Api::<CsiNode>::all(client), config, &source).await,
            Source::ResourceSlices => {
                self.follow(Api::<ResourceSlice>::all(client), config, &source).await;
            }
        }
    }

    async fn follow<K>(&self, api: Api<K>, config: watcher::Config, source: &Source)
    where
        K: SignalObject + Resource<DynamicType = ()> + Clone + DeserializeOwned + Send + 'static,
        K: std::fmt::Debug,
    {
        let events = watcher(api, config).default_backoff();
        pin_mut!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => self.observer.observe(source, SignalEvent::ListBegins),
                Ok(Event::InitApply(object) | Event::Apply(object)) => {
                    self.observer.observe(source, SignalEvent::Applied(&object));
                }
                Ok(Event::Delete(object)) => {
                    self.observer.observe(source, SignalEvent::Deleted(&object));
                }
                Ok(Event::InitDone) => {
                    self.observer.observe(source, SignalEvent::ListEnds);
                    self.set_failure(source, None);
                }
                Err(error @ watcher::Error::InitialListFailed(_)) => {
                    self.set_failure(source, Some(api_error::with_causes(&error)));
                }
                // Only the end of a list shows that a watch works again. What it missed, it delivers then.
                Err(error) => {
                    let error = api_error::with_causes(&error);
                    warn!(
                        "the watch of {source} was interrupted, and the operator retries: {error}"
                    );
                }
            }
        }
    }

    fn set_failure(&self, source: &Source, cause: Option<String>) {
        self.failures.send_if_modified(|failures| {
            if failures.get(source) == cause.as_ref() {
                return false;
            }
            if let Some(cause) = cause {
                warn!("{source} cannot be watched: {cause}");
                failures.insert(source.clone(), cause);
            } else {
                info!("{source} can be watched again");
                failures.remove(source);
            }
            true
        });
    }
}

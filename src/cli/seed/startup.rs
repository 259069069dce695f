//! The paths of the command line when `seed` starts.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::path_kind::PathKind;
use super::paths::{PathState, SeededPath, Version, expand, search};
use super::prepare::{Found, find};
use super::prepared::Prepared;
use super::refusals::{Refusals, warn_of_duplicate};
use super::served::ServedTorrent;
use super::session::STATUS_INTERVAL;
use crate::cli::exit::Failure;
use crate::cli::notify;
use crate::cli::options::SeedOptions;
use crate::cli::output::Output;
use crate::create::open::shown;
use crate::engine::{Contents, Source};
use crate::web::site::Published;

/// The paths of the command line, sorted by whether their content has to be hashed first.
pub(super) struct Startup<'a> {
    /// Torrents that are served from the start, each once.
    pub(super) sources: Vec<Source>,
    /// The same torrents for the web side; empty without one.
    pub(super) published: Vec<Published>,
    /// The same torrents for reports.
    pub(super) served: Vec<ServedTorrent>,
    /// All paths, with those whose content has to be hashed first.
    pub(super) paths: Vec<SeededPath>,
    pub(super) refusals: Refusals<'a>,
}

impl<'a> Startup<'a> {
    /// Prepares every path without reading content.
    ///
    /// Fails if no path can be served and no torrent can be added later.
    pub(super) fn prepare(
        options: &SeedOptions,
        contents: &Arc<Contents>,
        output: &'a Output,
    ) -> Result<Self, Failure> {
        let mut startup = Self {
            sources: Vec::new(),
            published: Vec::new(),
            served: Vec::new(),
            paths: Vec::new(),
            refusals: Refusals::new(options, output),
        };
        let mut known = HashSet::new();
        let mut notified_at = Instant::now();
        for path in expand(search(&options.torrents), output) {
            if notified_at.elapsed() >= STATUS_INTERVAL {
                notified_at = Instant::now();
                notify::starting(&format!("preparing {}", shown(&path)));
            }
            let kind = PathKind::of(&path);
            let state = match find(&path, options, output) {
                Ok(Found::Ready(prepared)) if !known.insert(prepared.source.metainfo.info_hash) => {
                    warn_of_duplicate(&path, output);
                    let Prepared { source, fingerprint, .. } = *prepared;
                    PathState::Duplicate { info_hash: source.metainfo.info_hash, fingerprint }
                }
                Ok(Found::Ready(prepared)) => PathState::Served(startup.add(*prepared, options, contents)),
                Ok(Found::Unhashed) => PathState::Unhashed,
                Err(failure) => {
                    let reason = failure.line.clone();
                    startup.refusals.add(kind, &path, failure);
                    PathState::Refused(reason)
                }
            };
            startup.paths.push(SeededPath { path, kind, state });
        }
        match startup.refusals.conclude(startup.sources.len() + startup.unhashed_count()) {
            Some(failure) => Err(failure),
            None => Ok(startup),
        }
    }

    /// The number of paths whose content has to be hashed first.
    pub(super) fn unhashed_count(&self) -> usize {
        self.paths.iter().filter(|seeded| matches!(seeded.state, PathState::Unhashed)).count()
    }

    fn add(&mut self, prepared: Prepared, options: &SeedOptions, contents: &Arc<Contents>) -> Version {
        let Prepared { source, trust, fingerprint } = prepared;
        let torrent = ServedTorrent::new(&source.metainfo, &source.have, &trust);
        let version = Version::new(&torrent, fingerprint);
        self.served.push(torrent);
        self.published.extend(options.web.as_ref().map(|web| {
            let content = web.web_seed.then(|| Arc::clone(contents));
            Published::new(source.metainfo.clone(), content, SystemTime::now())
        }));
        self.sources.push(source);
        version
    }
}

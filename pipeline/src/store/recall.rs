//! What a store remembers, as of one moment: what a plan is made from.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::{Store, StoreError, database_error, database_path, publish};
use crate::Digest;
use crate::manifest::Manifest;
use crate::plan::{Memory, Parts};
use crate::traces::{DbError, Known, Traces};

/// A view of a store that does not change while a plan is made.
pub struct Recall<'a> {
    store: &'a Store,
    traces: Traces,
    known: RefCell<HashMap<Digest, Arc<Known>>>,
}

impl<'a> Recall<'a> {
    pub(super) fn new(store: &'a Store) -> Result<Self, StoreError> {
        let traces = Traces::snapshot(&database_path(store.root())).map_err(database_error(store.root()))?;
        Ok(Self { store, traces, known: RefCell::default() })
    }

    fn answer<T>(&self, answer: Result<T, DbError>) -> Result<T, StoreError> {
        answer.map_err(database_error(self.store.root()))
    }
}

impl Memory for Recall<'_> {
    fn lookup(&self, fingerprint: Digest) -> Result<Option<Digest>, StoreError> {
        let found = self.answer(self.traces.artifact_of(fingerprint))?;
        Ok(found.map(|(_, artifact)| artifact).filter(|artifact| self.store.has(*artifact)))
    }

    fn knows_recipe(&self, recipe: Digest) -> Result<bool, StoreError> {
        self.answer(self.traces.knows_recipe(recipe))
    }

    fn last_manifest(&self, node: &str) -> Result<Option<Manifest>, StoreError> {
        let Some((trace, _)) = self.answer(self.traces.latest(node))? else { return Ok(None) };
        Ok(self.answer(self.traces.trace(trace))?.map(|trace| trace.manifest))
    }
}

impl Parts for Recall<'_> {
    fn part_digest(&self, artifact: Digest, part: Option<&str>) -> Result<Digest, StoreError> {
        let Some(part) = part else { return Ok(artifact) };
        if let Some(known) = self.known.borrow().get(&artifact) {
            return publish::part_digest(&known.files, part);
        }
        let known = match self.answer(self.traces.known(artifact))? {
            Some(known) => Arc::new(known),
            None => self.store.known(artifact)?,
        };
        let digest = publish::part_digest(&known.files, part);
        self.known.borrow_mut().insert(artifact, known);
        digest
    }
}

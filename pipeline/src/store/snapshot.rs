//! A view of the records of a store as of one moment: the source of a plan.

use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::Arc;

use super::{Store, StoreError, publish, records_error};
use crate::Digest;
use crate::manifest::Manifest;
use crate::plan::{History, Results};
use crate::records::{ArtifactFiles, Index, Recipes, RecordsError};

/// A view of a store that does not change while a plan is made.
pub struct StoreSnapshot<'a> {
    store: &'a Store,
    index: Index,
    known: RefCell<HashMap<Digest, Arc<ArtifactFiles>>>,
    presence: RefCell<Presence>,
    /// All recipes, read when they are first asked for: an index of them would make every row of a result a fifth larger.
    recipes: OnceCell<Recipes>,
}

/// Artifacts that are in their place. Of a folder that is asked for often, one listing answers for all.
#[derive(Default)]
struct Presence {
    asked: HashMap<u8, u32>,
    listed: HashMap<u8, HashSet<[u8; 32]>>,
}

/// Number of questions about a folder that are answered one by one.
const ONE_BY_ONE: u32 = 8;

impl Presence {
    fn has(&mut self, store: &Store, artifact: Digest) -> bool {
        let first = artifact.0[0];
        if let Some(listed) = self.listed.get(&first) {
            return listed.contains(&artifact.0) && !store.is_hidden(artifact);
        }
        let asked = self.asked.entry(first).or_default();
        *asked += 1;
        if *asked <= ONE_BY_ONE {
            return store.has(artifact);
        }
        let prefix = format!("{first:02x}");
        let folders = [&store.root, &store.work].map(|root| root.join("objects").join(&prefix));
        let names = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let digest = |entry: fs::DirEntry| {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            Digest::parse(&format!("{prefix}{}", entry.file_name().to_str()?)).filter(|_| is_folder).map(|digest| digest.0)
        };
        let listed: HashSet<[u8; 32]> = names.filter_map(digest).collect();
        let has = listed.contains(&artifact.0) && !store.is_hidden(artifact);
        self.listed.insert(first, listed);
        has
    }
}

impl<'a> StoreSnapshot<'a> {
    pub(super) fn new(store: &'a Store) -> Result<Self, StoreError> {
        let index = store.records.ask(|index| index.snapshot())?;
        Ok(Self { store, index, known: RefCell::default(), presence: RefCell::default(), recipes: OnceCell::new() })
    }

    fn answer<T>(&self, answer: Result<T, RecordsError>) -> Result<T, StoreError> {
        answer.map_err(records_error(self.store.root()))
    }
}

impl StoreSnapshot<'_> {
    fn find(&self, fingerprint: Digest) -> Result<Option<Digest>, StoreError> {
        let Some(found) = self.answer(self.index.find(fingerprint))? else { return Ok(None) };
        let artifact = found.artifact;
        if !self.presence.borrow_mut().has(self.store, artifact) && !self.store.is_away(artifact) {
            return Ok(None);
        }
        self.known.borrow_mut().insert(artifact, Arc::new(found.files));
        self.store.found.lock().expect("no holder of this lock panics").insert(fingerprint, found.result);
        Ok(Some(artifact))
    }

    fn known(&self, artifact: Digest) -> Result<Arc<ArtifactFiles>, StoreError> {
        if let Some(known) = self.known.borrow().get(&artifact) {
            return Ok(Arc::clone(known));
        }
        let known = match self.answer(self.index.files(artifact))? {
            Some(known) => Arc::new(known),
            None => self.store.known(artifact)?,
        };
        self.known.borrow_mut().insert(artifact, Arc::clone(&known));
        Ok(known)
    }
}

impl Results for StoreSnapshot<'_> {
    type Error = StoreError;

    fn lookup(&self, fingerprints: &[Digest]) -> Result<Vec<Option<Digest>>, StoreError> {
        fingerprints.iter().map(|fingerprint| self.find(*fingerprint)).collect()
    }

    fn part_digest(&self, artifact: Digest, part: Option<&str>) -> Result<Option<Digest>, StoreError> {
        let Some(part) = part else { return Ok(Some(artifact)) };
        match self.known(artifact).and_then(|known| publish::part_digest(&known.files, part)) {
            Err(StoreError::NoPart { .. } | StoreError::Gone { .. }) => Ok(None),
            digest => digest.map(Some),
        }
    }
}

impl History for StoreSnapshot<'_> {
    fn knows_recipe(&self, recipe: Digest, partition: Option<u32>) -> Result<bool, StoreError> {
        let recipes = match self.recipes.get() {
            Some(recipes) => recipes,
            None => self.recipes.get_or_init({
                let all = self.answer(self.index.recipes())?;
                || all
            }),
        };
        Ok(recipes.contains(recipe, partition))
    }

    fn last_manifest(&self, node: &str) -> Result<Option<Manifest>, StoreError> {
        let Some((result, _)) = self.answer(self.index.latest(node))? else { return Ok(None) };
        Ok(self.answer(self.index.result(result))?.map(|result| result.manifest))
    }
}

//! The file of worlds that broke something: `soak` writes it, `run` tries them first.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::job::Job;

/// The worlds that broke something and have not been seen whole since.
#[derive(Debug)]
pub(crate) struct Failures {
    file: PathBuf,
    jobs: BTreeSet<Job>,
}

impl Failures {
    /// Those of a file; none if there is no such file.
    pub(crate) fn open(file: &Path) -> anyhow::Result<Self> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
        };
        let jobs = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
        Ok(Self { file: file.to_owned(), jobs: jobs.with_context(|| format!("understand {}", file.display()))? })
    }

    pub(crate) fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter()
    }

    /// Takes down what a world came to.
    pub(crate) fn note(&mut self, job: &Job, is_broken: bool) -> anyhow::Result<()> {
        let changed = if is_broken { self.jobs.insert(job.clone()) } else { self.jobs.remove(job) };
        if changed { self.write() } else { Ok(()) }
    }

    fn write(&self) -> anyhow::Result<()> {
        let lines = self.jobs.iter().map(|job| serde_json::to_string(job).map(|line| line + "\n"));
        let text = lines.collect::<Result<String, _>>().context("jobs as JSON")?;
        let folder = self.file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        std::fs::write(&self.file, text).with_context(|| format!("write {}", self.file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Shape;

    #[test]
    fn a_world_stays_in_the_file_until_it_is_seen_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("deeper/failures");
        let job = |seed| Job { seed, shape: Shape::default() };
        let mut failures = Failures::open(&file).expect("no file is no failure");
        for (seed, is_broken) in [(3, true), (1, true), (2, false), (1, true), (3, false)] {
            failures.note(&job(seed), is_broken).expect("writes");
        }
        let read = Failures::open(&file).expect("reads");
        assert_eq!(read.jobs().map(|job| job.seed).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_file_that_nobody_understands_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("failures");
        std::fs::write(&file, "17\n").expect("writes");
        assert!(Failures::open(&file).is_err());
    }
}

//! The power fails, or the process is killed, at every write: what is found is always some commit, whole, and none
//! that is older than the last one that was told.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use par_store::{Bounds, Store};

use super::folder;
use super::model::{Dice, Model, RELEASES, workload};

fn open(folder: &Path) -> Store {
    let bounds = Bounds {
        releases: RELEASES,
        ..Bounds::default()
    };
    Store::open(folder, bounds).unwrap_or_else(|error| panic!("always readable: {error}"))
}

/// What lies on a disk.
#[derive(Clone, Default)]
struct Disk {
    file: Vec<u8>,
    log: Vec<u8>,
    key: Vec<u8>,
    secrets: BTreeMap<PathBuf, Vec<u8>>,
}

impl Disk {
    fn of(folder: &Path) -> Self {
        let secrets = fs::read_dir(folder.join("secrets")).expect("a folder");
        let secrets = secrets.map(|entry| {
            let path = entry.expect("an entry").path();
            let bytes = fs::read(&path).expect("readable");
            (path.file_name().expect("a name").into(), bytes)
        });
        Self {
            file: fs::read(folder.join("par.db")).expect("readable"),
            log: fs::read(folder.join("par.db-wal")).unwrap_or_default(),
            key: fs::read(folder.join("secret.key")).expect("readable"),
            secrets: secrets.collect(),
        }
    }

    /// What a store reads from it.
    fn read(&self) -> Model {
        let folder = folder();
        fs::create_dir(folder.path().join("secrets")).expect("created");
        fs::write(folder.path().join("par.db"), &self.file).expect("written");
        fs::write(folder.path().join("par.db-wal"), &self.log).expect("written");
        write_private(&folder.path().join("secret.key"), &self.key);
        for (name, bytes) in &self.secrets {
            write_private(&folder.path().join("secrets").join(name), bytes);
        }
        Model::of(&open(folder.path()))
    }
}

fn write_private(path: &Path, bytes: &[u8]) {
    let mut options = fs::OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(path).expect("created");
    file.write_all(bytes).expect("written");
}

/// A run of commits, and the disk after each.
struct Film {
    models: Vec<Model>,
    disks: Vec<Disk>,
}

impl Film {
    fn shoot(seed: u64, commits: usize) -> (Self, tempfile::TempDir) {
        let folder = folder();
        let store = open(folder.path());
        let mut model = Model::default();
        let mut film = Self {
            models: vec![model.clone()],
            disks: vec![Disk::of(folder.path())],
        };
        let mut revision = store.revision().expect("read");
        for ops in workload(seed, commits) {
            let changes = model.apply(&ops);
            revision = store.commit(revision, &changes).expect("committed");
            film.models.push(model.clone());
            film.disks.push(Disk::of(folder.path()));
        }
        (film, folder)
    }
}

const LOG_HEADER: usize = 32;
const FRAME: usize = 24 + 4096;
const SECTOR: usize = 512;

#[test]
fn a_commit_that_the_power_cuts_anywhere_is_there_or_not_at_all() {
    let mut dice = Dice(1);
    for seed in [7, 8] {
        let (film, _folder) = Film::shoot(seed, 14);
        for (index, moment) in film.disks.windows(2).enumerate() {
            let [before, after] = moment else {
                unreachable!("windows of two")
            };
            let (old, new) = (before.log.len(), after.log.len());
            assert!(new > old && after.log[..old] == before.log, "the log grows");
            let mut cuts: Vec<usize> = (LOG_HEADER..=new)
                .step_by(FRAME)
                .flat_map(|frame| [frame, frame + 1, frame + 24, frame + FRAME / 2])
                .collect();
            cuts.extend((0..4).map(|_| old + dice.roll((new - old) as u64) as usize));
            for cut in cuts.into_iter().filter(|cut| (old..=new).contains(cut)) {
                let mut found = at_the_cut(before, after);
                found.log.truncate(cut);
                let seen = found.read();
                let expected = &film.models[index + usize::from(cut == new)];
                assert_eq!(
                    &seen, expected,
                    "commit {index} cut at {cut} of {old}..{new}"
                );
            }
        }
    }
}

#[test]
fn a_commit_whose_sectors_reached_the_disk_in_any_order_is_there_or_not_at_all() {
    let mut dice = Dice(2);
    let (film, _folder) = Film::shoot(9, 14);
    for (index, moment) in film.disks.windows(2).enumerate() {
        let [before, after] = moment else {
            unreachable!("windows of two")
        };
        for round in 0..6 {
            let mut found = at_the_cut(before, after);
            let tail = &mut found.log[before.log.len()..];
            for sector in tail.chunks_mut(SECTOR) {
                match dice.roll(8) {
                    0 => sector.fill(0),
                    1 => sector.fill_with(|| dice.roll(256) as u8),
                    _ => {}
                }
            }
            let whole = found.log == after.log;
            let expected = &film.models[index + usize::from(whole)];
            assert_eq!(&found.read(), expected, "commit {index}, round {round}");
        }
    }
}

/// Secrets are written before the commit, and removed after it: meanwhile there are those of both.
fn at_the_cut(before: &Disk, after: &Disk) -> Disk {
    let mut found = after.clone();
    found.file.clone_from(&before.file);
    found.secrets.extend(before.secrets.clone());
    found
}

#[test]
fn the_log_flowing_back_into_the_file_may_be_cut_anywhere() {
    let mut dice = Dice(3);
    let (film, folder) = Film::shoot(10, 30);
    // The end of a store lets its log flow back; `shoot` has done that on its way out.
    let flowed = fs::read(folder.path().join("par.db")).expect("readable");
    let last = film.disks.last().expect("some");
    assert!(
        flowed.len() > last.file.len(),
        "there was a lot to flow back"
    );
    for _ in 0..24 {
        let mut found = last.clone();
        found.file.resize(flowed.len(), 0);
        for (at, sector) in flowed.chunks(SECTOR).enumerate() {
            if dice.roll(2) == 0 {
                found.file[at * SECTOR..][..sector.len()].copy_from_slice(sector);
            }
        }
        assert_eq!(Some(&found.read()), film.models.last());
    }
}

const WORKLOAD: &str = "PAR_STORE_TEST_WORKLOAD";
const SEED: u64 = 11;
const COMMITS: usize = 2_000;

/// Not a test of its own: what the next ones start, and kill.
#[test]
fn child_that_commits() {
    let Ok(folder) = std::env::var(WORKLOAD) else {
        return;
    };
    let store = open(Path::new(&folder));
    let mut revision = store.revision().expect("read");
    let mut model = Model::default();
    let mut out = std::io::stdout();
    for (ops, number) in workload(SEED, COMMITS).into_iter().zip(1_u64..) {
        let changes = model.apply(&ops);
        if number > revision.0 {
            revision = store.commit(revision, &changes).expect("committed");
            writeln!(out, "committed {number}").expect("somebody listens");
        }
    }
}

/// `before` is what a shell does first.
fn committing_child(folder: &Path, before: &str) -> Child {
    let test = std::env::current_exe().expect("this program");
    Command::new("sh")
        .args(["-c", &format!("ulimit -c 0; {before} exec \"$@\""), "sh"])
        .arg(test)
        .args(["--exact", "power::child_that_commits", "--nocapture"])
        .env(WORKLOAD, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the test starts itself")
}

/// The number of the last commit that a child told of.
fn told(child: &mut Child, until: impl Fn(u64) -> bool) -> u64 {
    let out = child.stdout.as_mut().expect("it was spawned with a pipe");
    let mut last = 0;
    for line in BufReader::new(out).lines() {
        let line = line.expect("text");
        if let Some(number) = line.strip_prefix("committed ") {
            last = number.parse().expect("a number");
        }
        if until(last) {
            break;
        }
    }
    last
}

/// All states of the workload, from the first.
fn states() -> Vec<Model> {
    let mut model = Model::default();
    let mut states = vec![model.clone()];
    for ops in workload(SEED, COMMITS) {
        model.apply(&ops);
        states.push(model.clone());
    }
    states
}

/// The state of a folder is the one of the last commit that was told of, or the next.
#[track_caller]
fn check(folder: &Path, last: u64, states: &[Model]) -> u64 {
    let store = open(folder);
    let found = store.revision().expect("read").0;
    assert!(
        (last..=last + 1).contains(&found),
        "{last} was told, {found} found"
    );
    assert_eq!(Model::of(&store), states[found as usize]);
    found
}

#[test]
fn killed_at_any_moment_it_holds_all_that_was_told() {
    let folder = folder();
    let states = states();
    let mut dice = Dice(4);
    let mut found = 0;
    for _ in 0..25 {
        let mut child = committing_child(folder.path(), "");
        let target = found + dice.roll(25);
        let told_first = told(&mut child, |last| last >= target);
        let pause = Duration::from_micros(dice.roll(3_000));
        let begin = Instant::now();
        while begin.elapsed() < pause {
            std::hint::spin_loop();
        }
        child.kill().expect("it can be killed");
        let last = told(&mut child, |_| false).max(told_first).max(found);
        child.wait().expect("it can be waited for");
        found = check(folder.path(), last, &states);
        if found as usize > COMMITS - 50 {
            break;
        }
    }
}

#[test]
fn killed_at_every_size_of_its_files_it_holds_all_that_was_told() {
    let states = states();
    let mut ended_early = 0;
    // In blocks of 512 bytes: the system ends the child at the write that would make a file larger, of which it does a part.
    for blocks in (1..120).step_by(3) {
        let folder = folder();
        let mut child = committing_child(folder.path(), &format!("ulimit -f {blocks};"));
        let last = told(&mut child, |_| false);
        let status = child.wait().expect("it can be waited for");
        ended_early += u32::from(!status.success());
        check(folder.path(), last, &states);
    }
    assert_eq!(ended_early, 40, "each was ended at a write");
}

#[test]
fn the_copy_is_whole_whenever_the_power_fails() {
    let folder = folder();
    let states = states();
    for blocks in (1..60).step_by(7) {
        let mut child = committing_child(folder.path(), &format!("ulimit -f {blocks};"));
        told(&mut child, |_| false);
        child.wait().expect("it can be waited for");
        let copy = folder.path().join("par.db.last-good");
        if copy.exists() {
            let restored = super::folder();
            fs::copy(&copy, restored.path().join("par.db")).expect("copied");
            let store = open(restored.path());
            let found = store.revision().expect("read").0 as usize;
            let kept = store.agents().expect("read");
            let mode = fs::metadata(&copy).expect("there").permissions().mode();
            assert_eq!(mode & 0o7777, 0o600);
            assert_eq!(kept.len(), states[found].agent_count());
        }
    }
}

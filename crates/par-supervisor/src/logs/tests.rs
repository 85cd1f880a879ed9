use std::time::Duration;

use futures_util::FutureExt as _;
use memchr::memmem::Finder;
use par_model::ReplicaId;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const LONG: usize = 64 << 10;

fn agent(name: &str) -> AgentId {
    name.parse().expect("a valid id")
}

fn line(at_ms: u64, message: &str) -> LogLine {
    LogLine {
        at_ms,
        stream: Stream::Stdout,
        level: Level::Info,
        replica: None,
        call: None,
        message: message.to_owned(),
    }
}

fn of(names: &[&str]) -> Filter {
    Filter {
        agents: names.iter().map(|name| agent(name)).collect(),
        ..Filter::default()
    }
}

fn messages(entries: &[Arc<Entry>]) -> Vec<&str> {
    let messages = entries.iter().map(|entry| entry.line.message.as_str());
    messages.collect()
}

fn found(store: &LogStore, filter: &Filter, limit: usize) -> Vec<String> {
    let found = store.search(filter, 0, limit);
    assert_eq!(found.incomplete, None);
    let messages = messages(&found.entries).into_iter();
    messages.map(str::to_owned).collect()
}

fn kept_in(folder: &TempDir) -> Arc<LogStore> {
    LogStore::open(&folder.path().join("logs"), LogSettings::default())
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// What comes next, up to a line that says `end`; a gap is `…`.
async fn read(follower: &mut Follower) -> Vec<String> {
    let mut seen = vec![];
    loop {
        let next = tokio::time::timeout(Duration::from_secs(20), follower.next());
        match next.await.expect("the end comes").expect("the store lives") {
            News::Line(entry) if entry.line.message == "end" => return seen,
            News::Line(entry) => seen.push(entry.line.message.clone()),
            News::Missed => seen.push("…".to_owned()),
        }
    }
}

/// What a follower reads of all that was written so far, and of a last line of `a`.
async fn read_all(store: &LogStore, follower: &mut Follower) -> Vec<String> {
    let end = LogLine {
        level: Level::Error,
        ..line(0, "end")
    };
    store.add(&agent("a"), end);
    read(follower).await
}

#[test]
fn the_newest_lines_of_all_agents_come_first() {
    let store = LogStore::default();
    store.add(&agent("a"), line(1, "first"));
    store.add(&agent("b"), line(2, "second"));
    store.add(&agent("a"), line(3, "third"));
    assert_eq!(found(&store, &of(&[]), 2), ["third", "second"]);
    assert_eq!(found(&store, &of(&["b"]), 9), ["second"]);
}

#[test]
fn memory_for_lines_is_bounded_for_each_agent_and_for_all() {
    let store = LogStore::default();
    let long = "x".repeat(LONG);
    for at in 0..50 {
        for name in 0..100 {
            store.add(&agent(&format!("a{name}")), line(at, &long));
        }
    }
    let all = found(&store, &of(&[]), usize::MAX).len();
    assert_eq!(all, rings::ALL_BYTES / (LONG + keeper::LINE_BYTES));
    let one = LogStore::default();
    for at in 0..50 {
        one.add(&agent("a"), line(at, &long));
    }
    let kept = found(&one, &of(&["a"]), usize::MAX).len();
    assert_eq!(kept, rings::KEPT_BYTES / (LONG + keeper::LINE_BYTES));
}

#[test]
fn every_condition_of_a_filter_holds() {
    let store = LogStore::default();
    let mut said = line(1_000, "the Quick fox");
    said.level = Level::Warning;
    said.call = Some("c1".to_owned());
    said.replica = Some(ReplicaId(7));
    store.add(&agent("a"), said);
    store.add(&agent("a"), line(2_000, "other"));
    let conditions: [fn(&mut Filter); 6] = [
        |filter| filter.grep = Some(Finder::new("Quick").into_owned()),
        |filter| filter.call = Some("c1".to_owned()),
        |filter| filter.replica = Some(ReplicaId(7)),
        |filter| filter.level = Some(Level::Warning),
        |filter| filter.at_least = Some(Level::Warning),
        |filter| {
            filter.at_least = Some(Level::Debug);
            filter.call = Some("c1".to_owned());
        },
    ];
    for condition in conditions {
        let mut filter = Filter::default();
        condition(&mut filter);
        assert_eq!(found(&store, &filter, 9), ["the Quick fox"], "{filter:?}");
    }
    let since = Filter {
        since_ms: 1_500,
        ..Filter::default()
    };
    assert_eq!(found(&store, &since, 9), ["other"]);
}

#[test]
fn lines_of_an_earlier_life_are_found_and_numbers_go_on() {
    let folder = folder();
    let store = kept_in(&folder);
    let mut first = line(1, "first");
    first.call = Some("c".to_owned());
    first.replica = Some(ReplicaId(3));
    store.add(&agent("a"), first.clone());
    store.add(&agent("b"), line(2, "second"));
    let before = store.search(&of(&[]), 0, 9).entries;
    drop(store);
    let store = kept_in(&folder);
    store.add(&agent("a"), line(3, "third"));
    assert_eq!(found(&store, &of(&[]), 9), ["third", "second", "first"]);
    assert_eq!(found(&store, &of(&[]), 2), ["third", "second"]);
    assert_eq!(found(&store, &of(&["a"]), 9), ["third", "first"]);
    let after = store.search(&of(&["a"]), 0, 9).entries;
    assert!(after[0].number > before[0].number);
    assert_eq!(after[1].line, first);
}

#[test]
fn what_memory_has_given_up_is_found_in_files() {
    let folder = folder();
    let store = kept_in(&folder);
    let long = "x".repeat(LONG);
    store.add(&agent("a"), line(0, "needle"));
    for at in 0..100 {
        store.add(&agent("a"), line(at, &long));
        store.add(&agent("b"), line(at, "short"));
    }
    let everything = found(&store, &of(&["a"]), usize::MAX);
    assert_eq!(
        (everything.len(), everything[100].as_str()),
        (101, "needle")
    );
    let mut filter = of(&[]);
    filter.grep = Some(Finder::new("needle").into_owned());
    assert_eq!(found(&store, &filter, 9), ["needle"]);
}

#[test]
fn a_torn_last_line_is_skipped_and_what_follows_it_is_whole() {
    let folder = folder();
    let store = kept_in(&folder);
    store.add(&agent("a"), line(1, "whole"));
    drop(store);
    let root = folder.path().join("logs");
    let first = segments::firsts(&root.join("a")).expect("readable")[0];
    let path = segments::path(&root.join("a"), first);
    let mut content = std::fs::read(&path).expect("readable");
    content.extend_from_slice(b"{\"n\":17,\"at_ms\":1,\"mess");
    std::fs::write(&path, content).expect("written");
    let store = kept_in(&folder);
    assert_eq!(found(&store, &of(&["a"]), 9), ["whole"]);
    store.add(&agent("a"), line(2, "next"));
    drop(store);
    let store = kept_in(&folder);
    assert_eq!(found(&store, &of(&["a"]), 9), ["next", "whole"]);
}

#[test]
fn what_is_cleared_is_gone_from_the_disk_too() {
    let folder = folder();
    let store = kept_in(&folder);
    for name in ["a", "b", "c"] {
        store.add(&agent(name), line(1, name));
    }
    store
        .clear(Some(&agent("a")))
        .blocking_recv()
        .expect("told");
    assert!(!folder.path().join("logs/a").exists());
    assert_eq!(found(&store, &of(&[]), 9), ["c", "b"]);
    store.add(&agent("a"), line(2, "anew"));
    drop(store);
    let store = kept_in(&folder);
    assert_eq!(found(&store, &of(&[]), 9), ["anew", "c", "b"]);
    store.clear(None).blocking_recv().expect("told");
    assert_eq!(found(&store, &of(&[]), 9), [""; 0]);
    assert!(
        segments::agents(&folder.path().join("logs"))
            .expect("readable")
            .is_empty()
    );
}

#[test]
fn a_folder_that_cannot_be_written_is_said_and_memory_goes_on() {
    let folder = folder();
    let root = folder.path().join("logs");
    std::fs::write(&root, "no folder").expect("written");
    let store = LogStore::open(&root, LogSettings::default());
    store.add(&agent("a"), line(1, "in memory"));
    store.sync();
    assert!(store.trouble().is_some());
    let in_memory = store.search(&of(&["a"]), 0, 1).entries;
    assert_eq!(messages(&in_memory), ["in memory"]);
    std::fs::remove_file(&root).expect("ours");
    // Tried again with the lines that come a second later.
    let tries = std::time::Instant::now();
    while store.trouble().is_some() {
        assert!(
            tries.elapsed() < Duration::from_secs(20),
            "it is not tried again"
        );
        store.add(&agent("a"), line(2, "again"));
        store.sync();
        std::thread::sleep(Duration::from_millis(50));
    }
    store.sync();
    let newest = store.search(&of(&["a"]), 0, 1).entries;
    let said = &newest[0].line;
    assert!(said.message.contains("are not kept on disk: "), "{said:?}");
    assert_eq!(said.level, Level::Warning);
}

#[test]
fn files_are_for_the_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = folder();
    let store = kept_in(&folder);
    store.add(&agent("a"), line(1, "secret"));
    drop(store);
    let root = folder.path().join("logs");
    let mode = |path: &Path| {
        let metadata = std::fs::metadata(path).expect("it is there");
        metadata.permissions().mode() & 0o777
    };
    let first = segments::firsts(&root.join("a")).expect("readable")[0];
    assert_eq!(mode(&root.join("a")), 0o700);
    assert_eq!(mode(&segments::path(&root.join("a"), first)), 0o600);
}

#[tokio::test]
async fn a_follower_gets_what_was_and_what_comes_in_the_order_it_came() {
    let store = Arc::new(LogStore::default());
    store.add(&agent("a"), line(0, "before"));
    let (before, mut follower) = store.follow(of(&[]), 10).await;
    assert_eq!(messages(&before), ["before"]);
    for (name, message) in [("b", "1"), ("a", "2"), ("b", "3")] {
        store.add(&agent(name), line(0, message));
    }
    assert_eq!(read_all(&store, &mut follower).await, ["1", "2", "3"]);
    let writing = async { store.add(&agent("a"), line(0, "news")) };
    let (news, ()) = tokio::join!(follower.next(), writing);
    assert!(matches!(news, Some(News::Line(entry)) if entry.line.message == "news"));
}

#[tokio::test]
async fn a_follower_sees_only_what_it_asked_for() {
    let store = Arc::new(LogStore::default());
    let mut filter = of(&["a"]);
    filter.level = Some(Level::Error);
    let (_, mut follower) = store.follow(filter, 10).await;
    for (name, level) in [("a", Level::Info), ("b", Level::Error), ("a", Level::Error)] {
        let line = LogLine {
            level,
            ..line(0, &format!("{name} {level:?}"))
        };
        store.add(&agent(name), line);
    }
    assert_eq!(read_all(&store, &mut follower).await, ["a Error"]);
}

#[tokio::test]
async fn a_follower_that_is_slow_reads_the_files_and_without_them_is_told_of_the_gap() {
    let folder = folder();
    for (store, is_kept) in [
        (kept_in(&folder), true),
        (Arc::new(LogStore::default()), false),
    ] {
        let (_, mut follower) = store.follow(of(&[]), 10).await;
        let long = "x".repeat(LONG);
        for number in 0..100 {
            store.add(&agent("a"), line(0, &format!("{number} {long}")));
        }
        let seen = read_all(&store, &mut follower).await;
        if is_kept {
            assert_eq!(seen.len(), 100);
            assert!(
                seen.iter()
                    .enumerate()
                    .all(|(at, line)| line.starts_with(&format!("{at} ")))
            );
        } else {
            assert_eq!(seen[0], "…");
            assert!(seen.len() > 2 && seen.len() < 10, "{}", seen.len());
        }
    }
}

#[tokio::test]
async fn who_comes_back_in_another_life_goes_on_where_it_was() {
    let folder = folder();
    let store = kept_in(&folder);
    for message in ["1", "2", "3"] {
        store.add(&agent("a"), line(0, message));
    }
    let (before, _) = store.follow(of(&[]), 2).await;
    let last_seen = before[0].number;
    drop(store);
    let store = kept_in(&folder);
    store.add(&agent("b"), line(0, "4"));
    let mut follower = store.resume(of(&[]), last_seen).expect("known");
    assert_eq!(read_all(&store, &mut follower).await, ["3", "4"]);
    store.add(&agent("a"), line(0, "5"));
    assert_eq!(read_all(&store, &mut follower).await, ["5"]);
    assert!(store.resume(of(&[]), u64::MAX - 1).is_none());
}

#[tokio::test]
async fn lines_that_were_cleared_are_not_missed() {
    let store = Arc::new(LogStore::default());
    store.add(&agent("a"), line(0, "seen"));
    let (_, mut follower) = store.follow(of(&[]), 10).await;
    store.add(&agent("a"), line(0, "unread"));
    store
        .clear(None)
        .now_or_never()
        .expect("at once")
        .expect("told");
    store.add(&agent("a"), line(0, "after"));
    assert_eq!(read_all(&store, &mut follower).await, ["after"]);
}

/// What an archive is asked to do.
#[derive(Clone, Debug)]
enum Step {
    /// Lines of an agent, so long each, so many milliseconds later.
    Write {
        agent: u8,
        lines: usize,
        length: usize,
        later: u64,
    },
    Clear(u8),
    Reopen,
    Sweep,
}

fn any_step() -> impl Strategy<Value = Step> {
    let write = (0_u8..3, 1_usize..30, 0_usize..300, 0_u64..2_000);
    let write = write.prop_map(|(agent, lines, length, later)| Step::Write {
        agent,
        lines,
        length,
        later,
    });
    prop_oneof![8 => write, 1 => (0_u8..3).prop_map(Step::Clear), 1 => Just(Step::Reopen), 1 => Just(Step::Sweep)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Beside a model that keeps everything: what is in the files is the newest of it, in order, and within the bounds.
    #[test]
    fn files_keep_the_newest_lines_within_their_bounds(steps in prop::collection::vec(any_step(), 1..40)) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let settings = LogSettings { file_bytes: 2_000, files: 3, age: Duration::from_secs(30), total_bytes: 12_000 };
        let mut archive = archive::Archive::new(folder.path(), settings);
        let mut model: Vec<Vec<u64>> = vec![vec![]; 3];
        let (mut number, mut now) = (0, 1_000_000);
        for step in steps {
            match step {
                Step::Write { agent: who, lines, length, later } => {
                    now += later;
                    let name = agent(&format!("a{who}"));
                    let entries: Vec<Arc<Entry>> = (0..lines).map(|_| {
                        number += 1;
                        model[usize::from(who)].push(number);
                        Arc::new(Entry { number, agent: name.clone(), line: line(now, &"x".repeat(length)) })
                    }).collect();
                    prop_assert!(archive.write(&name, &entries).is_ok());
                }
                Step::Clear(who) => {
                    archive.clear(Some(&agent(&format!("a{who}")))).expect("cleared");
                    model[usize::from(who)].clear();
                }
                Step::Reopen => archive = archive::Archive::new(folder.path(), settings),
                Step::Sweep => archive.sweep(now).expect("swept"),
            }
            let mut total = 0;
            for (who, written) in model.iter().enumerate() {
                let name = agent(&format!("a{who}"));
                let place = folder.path().join(name.as_str());
                let firsts = segments::firsts(&place).expect("readable");
                prop_assert!(firsts.len() <= settings.files);
                let mut kept = vec![];
                for first in firsts {
                    let path = segments::path(&place, first);
                    let size = std::fs::metadata(&path).expect("there").len();
                    prop_assert!(size <= settings.file_bytes);
                    total += size;
                    let mut lines = segments::Backward::open(&path).expect("there");
                    let mut numbers = vec![];
                    while let Some(line) = lines.next().expect("readable") {
                        numbers.extend(segments::decode(&name, &line).map(|entry| entry.number));
                    }
                    numbers.reverse();
                    kept.extend(numbers);
                }
                prop_assert!(written.ends_with(&kept), "{kept:?} of {written:?}");
                prop_assert!(written.is_empty() || !kept.is_empty() || total <= settings.total_bytes);
            }
            prop_assert!(total <= settings.total_bytes.max(settings.file_bytes));
        }
    }
}

#[test]
fn files_that_are_too_old_go_and_a_quiet_agents_lines_stay_their_time() {
    let folder = folder();
    let settings = LogSettings {
        age: Duration::from_secs(100),
        files: 4,
        ..LogSettings::default()
    };
    let mut archive = archive::Archive::new(folder.path(), settings);
    let entry = |number, at_ms| {
        Arc::new(Entry {
            number,
            agent: agent("a"),
            line: line(at_ms, "x"),
        })
    };
    for number in 1..=10 {
        let written = archive.write(&agent("a"), &[entry(number, number * 10_000)]);
        assert!(written.is_ok());
    }
    // Each file covers a quarter of the age.
    let firsts = |place: &str| segments::firsts(&folder.path().join(place)).expect("readable");
    assert_eq!(firsts("a"), [1, 4, 7, 10]);
    archive.sweep(160_001).expect("swept");
    assert_eq!(firsts("a"), [7, 10]);
    archive.sweep(1_000_000).expect("swept");
    assert!(!folder.path().join("a").exists());
}

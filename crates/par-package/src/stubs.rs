//! What generated protobuf modules of a package need to be imported: they check it themselves, and refuse to work with
//! less, whatever the package's requirements say.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use crate::requirements::Requirements;

/// Files and folders that are looked at.
const MOST_ENTRIES: usize = 20_000;
/// What is read of a module: its checks come first.
const HEAD: u64 = 8 << 10;
const DEEPEST: usize = 16;

/// The newest versions among all modules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StubNeeds {
    grpcio: Option<Version>,
    protobuf: Option<Version>,
}

/// Major, minor, patch.
type Version = [u32; 3];

impl StubNeeds {
    /// Looks through an unpacked package. What cannot be read needs nothing.
    pub fn of(root: &Path) -> Self {
        let mut needs = Self::default();
        let mut left = MOST_ENTRIES;
        needs.search(root, DEEPEST, &mut left);
        needs
    }

    fn search(&mut self, folder: &Path, depth: usize, left: &mut usize) {
        let Ok(entries) = fs::read_dir(folder) else {
            return;
        };
        for entry in entries.flatten() {
            let Some(rest) = left.checked_sub(1) else {
                return;
            };
            *left = rest;
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth > 0 => self.search(&path, depth - 1, left),
                Ok(kind) if kind.is_file() && is_stub(&path) => self.read(&path),
                _ => {}
            }
        }
    }

    fn read(&mut self, path: &Path) {
        let mut head = vec![];
        let read = File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
        if read.is_ok() {
            self.add(&String::from_utf8_lossy(&head));
        }
    }

    /// Takes what one module says.
    fn add(&mut self, module: &str) {
        self.grpcio = self.grpcio.max(grpcio_of(module));
        self.protobuf = self.protobuf.max(protobuf_of(module));
    }

    /// The package's requirements, raised to what its modules need, and a word about each that was overruled.
    pub fn raise(&self, requirements: &Requirements) -> (Requirements, Vec<String>) {
        let mut raised = requirements.clone();
        let mut warnings = vec![];
        let grpcio = self.grpcio.map(|version| format!(">={}", shown(version)));
        let protobuf = self.protobuf.map(|version| {
            // A runtime may be one major version ahead of the modules.
            format!(">={},<{}", shown(version), version[0].saturating_add(2))
        });
        for (name, versions) in [("grpcio", grpcio), ("protobuf", protobuf)] {
            let Some(versions) = versions else { continue };
            for overruled in raised.require_at_least(name, &versions) {
                warnings.push(format!(
                    "the package's generated modules need {name}{versions}: its `{overruled}` is overruled"
                ));
            }
        }
        (raised, warnings)
    }
}

fn is_stub(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.ends_with("_pb2.py") || name.ends_with("_pb2_grpc.py"))
}

/// `GRPC_GENERATED_VERSION = '1.73.1'`
fn grpcio_of(module: &str) -> Option<Version> {
    let rest = module.split_once("GRPC_GENERATED_VERSION = ")?.1;
    let quoted = rest.trim_start_matches(['\'', '"']);
    let end = quoted.find(['\'', '"'])?;
    version_of(quoted[..end].split('.'))
}

/// `ValidateProtobufRuntimeVersion(Domain.PUBLIC, 6, 31, 0, …)`
fn protobuf_of(module: &str) -> Option<Version> {
    let rest = module.split_once("ValidateProtobufRuntimeVersion(")?.1;
    version_of(rest.split(',').skip(1).map(str::trim))
}

fn version_of<'a>(mut parts: impl Iterator<Item = &'a str>) -> Option<Version> {
    let mut next = || parts.next()?.parse::<u32>().ok();
    Some([next()?, next()?, next()?])
}

fn shown(version: Version) -> String {
    version.map(|part| part.to_string()).join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requirements::Requirement;
    use proptest::prelude::*;

    const GRPC: &str =
        "import grpc\nGRPC_GENERATED_VERSION = '1.73.1'\nGRPC_VERSION = grpc.__version__\n";
    const PROTOBUF: &str = "_runtime_version.ValidateProtobufRuntimeVersion(\n    _runtime_version.Domain.PUBLIC,\n    6,\n    31,\n    0,\n    '',\n    'x.proto'\n)\n";

    fn raised(asked: &[&str]) -> (String, Vec<String>) {
        let mut needs = StubNeeds::default();
        needs.add(GRPC);
        needs.add(PROTOBUF);
        needs.add("nothing of it");
        let asked = asked
            .iter()
            .map(|line| line.parse::<Requirement>().expect("valid"));
        let (raised, warnings) = needs.raise(&asked.collect());
        (raised.text(), warnings)
    }

    #[test]
    fn modules_get_what_they_check_for_whether_it_was_asked_for_or_not() {
        let expected = "grpcio>=1.73.1\nprotobuf<8,>=6.31.0\n";
        assert_eq!(raised(&[]), (expected.to_owned(), vec![]));
        let (text, warnings) = raised(&["grpcio==1.60.0", "protobuf~=4.25", "six"]);
        assert_eq!(text, format!("{expected}six\n"));
        assert_eq!(warnings.len(), 2);
        assert!(
            warnings[0].contains("`grpcio==1.60.0` is overruled"),
            "{warnings:?}"
        );
    }

    #[test]
    fn what_asks_for_no_less_than_some_version_stays() {
        let (text, warnings) = raised(&["grpcio>=1.60", "protobuf>=4.25,!=5.0"]);
        assert_eq!(
            text,
            "grpcio>=1.60\ngrpcio>=1.73.1\nprotobuf!=5.0,>=4.25\nprotobuf<8,>=6.31.0\n"
        );
        assert!(warnings.is_empty());
    }

    #[test]
    fn a_package_without_such_modules_asks_for_what_it_asks_for() {
        let needs = StubNeeds::default();
        let asked: Requirements = ["grpcio==1.60.0".parse::<Requirement>().expect("valid")]
            .into_iter()
            .collect();
        assert_eq!(needs.raise(&asked), (asked, vec![]));
    }

    #[test]
    fn modules_are_found_at_any_place() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = folder.path().join("src/a2a");
        fs::create_dir_all(&place).expect("made");
        fs::write(place.join("x_pb2_grpc.py"), GRPC).expect("written");
        fs::write(place.join("x_pb2.py"), PROTOBUF).expect("written");
        fs::write(place.join("y.py"), GRPC.replace("1.73", "9.9")).expect("written");
        let needs = StubNeeds::of(folder.path());
        assert_eq!(
            needs,
            StubNeeds {
                grpcio: Some([1, 73, 1]),
                protobuf: Some([6, 31, 0])
            }
        );
    }

    proptest! {
        #[test]
        fn no_module_makes_it_panic(tail in ".{0,80}") {
            let mut needs = StubNeeds::default();
            needs.add(&format!("GRPC_GENERATED_VERSION = {tail}"));
            needs.add(&format!("ValidateProtobufRuntimeVersion({tail}"));
        }
    }
}

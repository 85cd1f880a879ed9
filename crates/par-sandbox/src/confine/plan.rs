//! What the confiner is asked for, and what it says took hold.

use std::collections::BTreeMap;
use std::path::PathBuf;

use par_model::limits::LimitName;
use par_model::{Layer, Profile};
use serde::{Deserialize, Serialize};

use crate::canary::Bait;
use crate::private_tmp::PrivateTmp;

/// All that the confiner does. Has no `Debug`: the environment may hold secrets.
#[derive(Clone, Serialize, Deserialize)]
pub struct Plan {
    pub program: Program,
    /// All of it: nothing is inherited.
    pub env: BTreeMap<String, String>,
    /// The current folder.
    pub folder: PathBuf,
    pub confinement: Confinement,
}

/// What runs behind the walls.
#[derive(Clone, Serialize, Deserialize)]
pub enum Program {
    Execute {
        path: PathBuf,
        arguments: Vec<String>,
    },
    /// Nothing is executed: the confiner itself tries to get out.
    Canary(Bait),
}

/// The walls that are asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Confinement {
    /// The worker: when it is no longer our parent, there is nobody to serve.
    pub parent: u32,
    pub profile: Profile,
    /// The machine's user that the program runs as, where we may choose one.
    pub user: Option<u32>,
    pub view: View,
    /// TCP ports on the loopback address of the private network on which the worker listens.
    pub ports: Vec<u16>,
    /// The one TCP port that it may connect to where it has no network of its own and would have no sockets.
    pub connects_to: Option<u16>,
    /// Most bytes of private memory that each process of the agent may have.
    pub data_bytes: Option<u64>,
    /// Where there is no root of its own.
    pub private_tmp: Option<PrivateTmp>,
    /// Orphans below the process stay below it, so that they can be found when it ends.
    pub keeps_orphans: bool,
    /// How much less than the worker it is preferred by the scheduler, -20 to 19.
    pub niceness: i32,
    /// Most files that each process may have open.
    pub open_files: Option<u64>,
    /// Most bytes of one file that it writes.
    pub file_bytes: Option<u64>,
    /// Most processes and threads of this user, where no group holds that.
    pub processes: Option<u64>,
    /// Files through which control groups are joined.
    pub groups: Vec<PathBuf>,
    /// The step at which it waits for ever; in a release it never does.
    pub failpoint: Option<String>,
}

impl Default for Confinement {
    fn default() -> Self {
        Self {
            parent: std::process::id(),
            profile: Profile::Unsafe,
            user: None,
            view: View::default(),
            ports: vec![],
            connects_to: None,
            data_bytes: None,
            private_tmp: None,
            keeps_orphans: false,
            niceness: 0,
            open_files: None,
            file_bytes: None,
            processes: None,
            groups: vec![],
            failpoint: None,
        }
    }
}

/// What the program sees of the machine's files, each under its own path, besides what every program needs of the
/// system. Paths are absolute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    pub read_only: Vec<PathBuf>,
    pub writable: Vec<PathBuf>,
    /// Unix sockets by the name that they get in `/tmp`.
    pub sockets: BTreeMap<String, PathBuf>,
    /// Most bytes of all files in `/tmp`, in memory.
    pub tmp_bytes: u64,
    /// Most bytes of all files in `/dev/shm`.
    pub shm_bytes: u64,
}

/// What took hold, said before the program begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confined {
    pub layers: Vec<Layer>,
    /// Why there is no private `/tmp`, where one was asked for.
    pub without_private_tmp: Option<String>,
    /// Why it is in no control group, where it should be in one.
    pub without_group: Option<String>,
    /// Limits of the process itself that do not hold, and why.
    pub not_held: Vec<(LimitName, String)>,
}

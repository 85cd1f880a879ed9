//! The system calls that a program may make: those that programs of every day need, and none that reaches deep into the
//! kernel or into other processes.
//!
//! Two filters, of which the kernel takes the stricter answer, and of two errors that of the filter installed last:
//! the first lists what is allowed, and calls what it does not know not implemented, as an older kernel would, so that
//! programs fall back; the second says that what is known and refused is not permitted.

use std::collections::BTreeMap;
use std::io;

use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use super::plan::Confinement;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// `TIOCSTI` types on a terminal for others, `TIOCLINUX` too, and `TIOCSETD` loads line disciplines.
const REFUSED_IOCTLS: [u64; 3] = [libc::TIOCSTI, 0x541C, libc::TIOCSETD];
/// Protocols of internet sockets: whatever the type means, TCP, UDP.
const PROTOCOLS: [i32; 3] = [0, libc::IPPROTO_TCP, libc::IPPROTO_UDP];
const TYPES: [i32; 2] = [libc::SOCK_STREAM, libc::SOCK_DGRAM];
/// Of the type of a socket; the rest are flags.
const TYPE_MASK: u64 = 0xf;
/// A new namespace of any kind.
const NEW_NAMESPACES: u64 = 0x7e02_0080;

/// Those that a program may make.
#[derive(Clone, Copy)]
enum Sockets {
    /// Behind them is nothing but what was put there.
    OfItsNetwork,
    /// For the one port that Landlock lets through.
    Tcp,
    None,
}

impl Sockets {
    fn of(asked: &Confinement) -> Self {
        match asked.connects_to {
            _ if asked.profile.has_namespaces() => Self::OfItsNetwork,
            Some(_) => Self::Tcp,
            None => Self::None,
        }
    }

    fn families(self) -> &'static [i32] {
        match self {
            Self::OfItsNetwork => &[
                libc::AF_UNIX,
                libc::AF_NETLINK,
                libc::AF_INET,
                libc::AF_INET6,
            ],
            Self::Tcp => &[libc::AF_INET],
            Self::None => &[],
        }
    }
}

/// To be the last step: most of what came before is not allowed afterwards.
pub(super) fn install(asked: &Confinement) -> io::Result<()> {
    install_for(Sockets::of(asked))
}

fn install_for(sockets: Sockets) -> io::Result<()> {
    for program in programs(sockets)? {
        seccompiler::apply_filter(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

fn programs(sockets: Sockets) -> io::Result<[BpfProgram; 2]> {
    let not_implemented = SeccompAction::Errno(errno(libc::ENOSYS));
    let not_permitted = SeccompAction::Errno(errno(libc::EPERM));
    Ok([
        compile(allowed(sockets)?, not_implemented, SeccompAction::Allow)?,
        compile(refused(sockets)?, SeccompAction::Allow, not_permitted)?,
    ])
}

fn errno(number: i32) -> u32 {
    number.unsigned_abs()
}

fn compile(
    rules: Rules,
    otherwise: SeccompAction,
    matching: SeccompAction,
) -> io::Result<BpfProgram> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, otherwise, matching, arch).map_err(io::Error::other)?;
    filter.try_into().map_err(io::Error::other)
}

fn allowed(wanted: Sockets) -> io::Result<Rules> {
    let mut rules: Rules = ALLOWED
        .iter()
        .chain(ALLOWED_HERE)
        .map(|call| (*call, vec![]))
        .collect();
    let others: Vec<SeccompCondition> = REFUSED_IOCTLS
        .iter()
        .map(|request| condition(1, Ne, *request))
        .collect::<io::Result<_>>()?;
    rules.insert(libc::SYS_ioctl, vec![rule(others)?]);
    rules.insert(
        libc::SYS_clone,
        vec![rule(vec![condition(0, MaskedEq(NEW_NAMESPACES), 0)?])?],
    );
    // Linux itself, its 32-bit self, and a question.
    let personas = [0, 0x8, 0xffff_ffff]
        .map(|persona| condition(0, Eq, persona).and_then(|is| rule(vec![is])));
    rules.insert(
        libc::SYS_personality,
        personas.into_iter().collect::<io::Result<_>>()?,
    );
    match wanted {
        Sockets::OfItsNetwork => {
            let unix = condition(0, Eq, number(libc::AF_UNIX))?;
            rules.insert(libc::SYS_socketpair, vec![rule(vec![unix])?]);
        }
        Sockets::Tcp | Sockets::None => {
            rules.insert(libc::SYS_socketpair, bound_pairs()?);
            rules.insert(libc::SYS_prlimit64, own_limits()?);
        }
    }
    match wanted {
        Sockets::OfItsNetwork => rules.insert(libc::SYS_socket, sockets()?),
        Sockets::Tcp => rules.insert(
            libc::SYS_socket,
            internet(libc::AF_INET, libc::SOCK_STREAM)?,
        ),
        Sockets::None => None,
    };
    Ok(rules)
}

/// Pairs whose ends stay with each other: an end of datagrams can be sent to any socket that has a name in the file system,
/// of which Landlock knows nothing.
fn bound_pairs() -> io::Result<Vec<SeccompRule>> {
    let pair = |kind| {
        rule(vec![
            condition(0, Eq, number(libc::AF_UNIX))?,
            condition(1, MaskedEq(TYPE_MASK), number(kind))?,
        ])
    };
    [libc::SOCK_STREAM, libc::SOCK_SEQPACKET]
        .into_iter()
        .map(pair)
        .collect()
}

/// To see the limits of any process, and to set one's own. Whoever may set those of another process of the same user can end
/// it, with a limit of processor time, and Landlock does not see it.
fn own_limits() -> io::Result<Vec<SeccompRule>> {
    let own = rule(vec![condition(0, Eq, 0)?])?;
    let nothing_new = SeccompCondition::new(2, Qword, Eq, 0).map_err(io::Error::other)?;
    Ok(vec![own, rule(vec![nothing_new])?])
}

/// Of our own network, and of our own files.
fn sockets() -> io::Result<Vec<SeccompRule>> {
    let family = |family| condition(0, Eq, number(family));
    let protocol = |protocol| condition(2, Eq, number(protocol));
    let mut rules = vec![
        rule(vec![family(libc::AF_UNIX)?])?,
        rule(vec![
            family(libc::AF_NETLINK)?,
            protocol(libc::NETLINK_ROUTE)?,
        ])?,
    ];
    for family in [libc::AF_INET, libc::AF_INET6] {
        for kind in TYPES {
            rules.extend(internet(family, kind)?);
        }
    }
    Ok(rules)
}

fn internet(family: i32, kind: i32) -> io::Result<Vec<SeccompRule>> {
    let rules = PROTOCOLS.iter().map(|protocol| {
        rule(vec![
            condition(0, Eq, number(family))?,
            condition(1, MaskedEq(TYPE_MASK), number(kind))?,
            condition(2, Eq, number(*protocol))?,
        ])
    });
    rules.collect()
}

fn refused(sockets: Sockets) -> io::Result<Rules> {
    let mut rules: Rules = REFUSED.iter().map(|call| (*call, vec![])).collect();
    let requests = REFUSED_IOCTLS.iter();
    let requests = requests.map(|request| rule(vec![condition(1, Eq, *request)?]));
    rules.insert(libc::SYS_ioctl, requests.collect::<io::Result<_>>()?);
    let families = sockets.families().iter();
    let none = families.map(|family| condition(0, Ne, number(*family)));
    let none: Vec<SeccompCondition> = none.collect::<io::Result<_>>()?;
    let none = match none.is_empty() {
        true => vec![],
        false => vec![rule(none)?],
    };
    rules.insert(libc::SYS_socket, none);
    if !matches!(sockets, Sockets::OfItsNetwork) {
        let datagrams = condition(1, MaskedEq(TYPE_MASK), number(libc::SOCK_DGRAM))?;
        rules.insert(libc::SYS_socketpair, vec![rule(vec![datagrams])?]);
        let of_others = vec![
            condition(0, Ne, 0)?,
            SeccompCondition::new(2, Qword, Ne, 0).map_err(io::Error::other)?,
        ];
        rules.insert(libc::SYS_prlimit64, vec![rule(of_others)?]);
    }
    Ok(rules)
}

fn number(value: i32) -> u64 {
    u64::from(value.unsigned_abs())
}

fn condition(argument: u8, op: SeccompCmpOp, value: u64) -> io::Result<SeccompCondition> {
    SeccompCondition::new(argument, Dword, op, value).map_err(io::Error::other)
}

fn rule(conditions: Vec<SeccompCondition>) -> io::Result<SeccompRule> {
    SeccompRule::new(conditions).map_err(io::Error::other)
}

macro_rules! calls {
    ($($name:ident)*) => { &[$(libc::$name),*] };
}

/// What would be refused anyway, or should be: with an answer that says so.
const REFUSED: &[i64] = calls! {
    SYS_acct SYS_add_key SYS_bpf SYS_chroot SYS_clock_settime SYS_delete_module SYS_fanotify_init
    SYS_finit_module SYS_init_module SYS_io_uring_setup SYS_io_uring_enter SYS_io_uring_register SYS_kcmp
    SYS_kexec_load SYS_keyctl SYS_lookup_dcookie SYS_mount SYS_move_mount SYS_name_to_handle_at
    SYS_open_by_handle_at SYS_open_tree SYS_fsopen SYS_fsconfig SYS_fsmount SYS_fspick SYS_mount_setattr
    SYS_perf_event_open SYS_pidfd_getfd SYS_pivot_root SYS_process_vm_readv SYS_process_vm_writev SYS_ptrace
    SYS_quotactl SYS_reboot SYS_request_key SYS_setdomainname SYS_sethostname SYS_setns SYS_settimeofday
    SYS_swapoff SYS_swapon SYS_syslog SYS_umount2 SYS_unshare SYS_userfaultfd SYS_vhangup
};

const ALLOWED: &[i64] = calls! {
    SYS_accept SYS_accept4 SYS_bind SYS_brk SYS_capget SYS_capset SYS_chdir SYS_clock_getres SYS_clock_gettime
    SYS_clock_nanosleep SYS_close SYS_close_range SYS_connect SYS_copy_file_range SYS_dup SYS_dup3
    SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2 SYS_execve SYS_execveat
    SYS_exit SYS_exit_group SYS_faccessat SYS_faccessat2 SYS_fadvise64 SYS_fallocate SYS_fchdir SYS_fchmod
    SYS_fchmodat SYS_fchmodat2 SYS_fchown SYS_fchownat SYS_fcntl SYS_fdatasync SYS_fgetxattr SYS_flistxattr
    SYS_flock SYS_fremovexattr SYS_fsetxattr SYS_fstat SYS_fstatfs SYS_fsync SYS_ftruncate SYS_futex
    SYS_futex_waitv SYS_get_mempolicy SYS_get_robust_list SYS_getcpu SYS_getcwd SYS_getdents64 SYS_getegid SYS_geteuid
    SYS_getgid SYS_getgroups SYS_getitimer SYS_getpeername SYS_getpgid SYS_getpid SYS_getppid SYS_getpriority
    SYS_getrandom SYS_getresgid SYS_getresuid SYS_getrlimit SYS_getrusage SYS_getsid SYS_getsockname
    SYS_getsockopt SYS_gettid SYS_gettimeofday SYS_getuid SYS_getxattr SYS_inotify_add_watch
    SYS_inotify_init1 SYS_inotify_rm_watch SYS_io_cancel SYS_io_destroy SYS_io_getevents SYS_io_setup
    SYS_io_submit SYS_ioprio_get SYS_ioprio_set SYS_kill SYS_landlock_add_rule SYS_landlock_create_ruleset
    SYS_landlock_restrict_self SYS_lgetxattr SYS_linkat SYS_listen SYS_listxattr SYS_llistxattr
    SYS_lremovexattr SYS_lseek SYS_lsetxattr SYS_madvise SYS_mbind SYS_membarrier SYS_memfd_create SYS_mincore
    SYS_mkdirat SYS_mknodat SYS_mlock SYS_mlock2 SYS_mlockall SYS_mmap SYS_mprotect SYS_mq_getsetattr
    SYS_mq_notify SYS_mq_open SYS_mq_timedreceive SYS_mq_timedsend SYS_mq_unlink SYS_mremap SYS_msgctl
    SYS_msgget SYS_msgrcv SYS_msgsnd SYS_msync SYS_munlock SYS_munlockall SYS_munmap SYS_nanosleep
    SYS_newfstatat SYS_openat SYS_openat2 SYS_pidfd_open SYS_pidfd_send_signal SYS_pipe2 SYS_pkey_alloc
    SYS_pkey_free SYS_pkey_mprotect SYS_ppoll SYS_prctl SYS_pread64 SYS_preadv SYS_preadv2 SYS_prlimit64
    SYS_pselect6 SYS_pwrite64 SYS_pwritev SYS_pwritev2 SYS_read SYS_readahead SYS_readlinkat SYS_readv
    SYS_recvfrom SYS_recvmmsg SYS_recvmsg SYS_remap_file_pages SYS_removexattr SYS_renameat SYS_renameat2
    SYS_restart_syscall SYS_rseq SYS_rt_sigaction SYS_rt_sigpending SYS_rt_sigprocmask SYS_rt_sigqueueinfo
    SYS_rt_sigreturn SYS_rt_sigsuspend SYS_rt_sigtimedwait SYS_rt_tgsigqueueinfo SYS_sched_get_priority_max
    SYS_sched_get_priority_min SYS_sched_getaffinity SYS_sched_getattr SYS_sched_getparam
    SYS_sched_getscheduler SYS_sched_rr_get_interval SYS_sched_setaffinity SYS_sched_setattr
    SYS_sched_setparam SYS_sched_setscheduler SYS_sched_yield SYS_seccomp SYS_semctl SYS_semget SYS_semop
    SYS_semtimedop SYS_sendfile SYS_sendmmsg SYS_sendmsg SYS_sendto SYS_set_mempolicy SYS_set_robust_list
    SYS_set_tid_address SYS_setfsgid SYS_setfsuid SYS_setgid SYS_setgroups SYS_setitimer SYS_setpgid
    SYS_setpriority SYS_setregid SYS_setresgid SYS_setresuid SYS_setreuid SYS_setrlimit SYS_setsid
    SYS_setsockopt SYS_setuid SYS_setxattr SYS_shmat SYS_shmctl SYS_shmdt SYS_shmget SYS_shutdown
    SYS_sigaltstack SYS_signalfd4 SYS_splice SYS_statfs SYS_statx SYS_symlinkat SYS_sync SYS_sync_file_range
    SYS_syncfs SYS_sysinfo SYS_tee SYS_tgkill SYS_timer_create SYS_timer_delete SYS_timer_getoverrun
    SYS_timer_gettime SYS_timer_settime SYS_timerfd_create SYS_timerfd_gettime SYS_timerfd_settime SYS_times
    SYS_tkill SYS_truncate SYS_umask SYS_uname SYS_unlinkat SYS_utimensat SYS_vmsplice SYS_wait4 SYS_waitid
    SYS_write SYS_writev
};

/// What older programs call by other names, and what this processor needs.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[i64] = calls! {
    SYS_access SYS_alarm SYS_arch_prctl SYS_chmod SYS_chown SYS_creat SYS_dup2 SYS_epoll_create SYS_epoll_wait
    SYS_eventfd SYS_fork SYS_futimesat SYS_getdents SYS_getpgrp SYS_inotify_init SYS_lchown SYS_link SYS_lstat
    SYS_mkdir SYS_mknod SYS_open SYS_pause SYS_pipe SYS_poll SYS_readlink SYS_rename SYS_rmdir SYS_select
    SYS_signalfd SYS_stat SYS_symlink SYS_time SYS_unlink SYS_utime SYS_utimes SYS_vfork
};
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[i64] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_both_allowed_and_refused() {
        for call in REFUSED {
            assert!(
                !ALLOWED.contains(call) && !ALLOWED_HERE.contains(call),
                "{call}"
            );
        }
    }

    #[test]
    fn filters_of_every_profile_compile_and_are_small() {
        for sockets in [Sockets::OfItsNetwork, Sockets::Tcp, Sockets::None] {
            for program in programs(sockets).expect("compiled") {
                assert!(program.len() < 2048, "{} steps", program.len());
            }
        }
    }

    #[test]
    fn without_a_network_of_its_own_no_socket_has_an_address_and_no_limit_of_others_is_set() {
        use rustix::io::Errno;
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        use rustix::process::{Resource, getppid, getrlimit, prlimit, setrlimit};

        let behind = std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).expect("given up");
            install_for(Sockets::None).expect("installed");
            let pair =
                |kind| socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).map(drop);
            let same = getrlimit(Resource::Core);
            (
                pair(SocketType::DGRAM),
                pair(SocketType::STREAM),
                prlimit(getppid(), Resource::Core, same).map(drop),
                setrlimit(Resource::Core, same),
            )
        });
        let expected = (Err(Errno::PERM), Ok(()), Err(Errno::PERM), Ok(()));
        assert_eq!(behind.join().expect("it ended"), expected);
    }
}

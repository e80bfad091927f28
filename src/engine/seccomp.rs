//! The system calls of containers in which Dockerfiles are built: what Docker's own profile allows to a container without
//! capabilities, and the calls with which buildah makes user and mount namespaces. Other namespaces stay closed: in a
//! network namespace of its own, a process could configure what the machine's kernel filters and routes.

use serde_json::{Value, json};

/// System calls that are allowed with all arguments (syscalls(2)).
const ALLOWED: &str = "
    _llseek _newselect accept accept4 access adjtimex alarm arch_prctl bind brk capget capset chdir chmod chown chown32
    chroot clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close
    close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2
    epoll_wait eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate
    fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr
    flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex
    futex_time64 futex_waitv futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32
    geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid
    getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt
    gettid gettimeofday getuid getuid32 getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel
    io_destroy io_getevents io_pgetevents io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule
    landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listxattr llistxattr
    lremovexattr lseek lsetxattr lstat lstat64 madvise membarrier memfd_create mincore mkdir mkdirat mknod mknodat mlock
    mlock2 mlockall mmap mmap2 modify_ldt mount mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
    mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap msgctl msgget msgrcv msgsnd msync munlock
    munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe
    pipe2 pivot_root pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64
    pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom
    recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr rename renameat renameat2 restart_syscall rmdir rseq
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr
    sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr
    sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send
    sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32
    setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 sethostname setitimer setpgid setpriority setregid
    setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32
    setxattr shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketpair splice
    stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create
    timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask
    umount umount2 uname unlink unlinkat utime utimensat utimensat_time64 utimes vfork wait4 waitid waitpid write writev
";

/// System calls of which programs must think that the kernel lacks them, so that they use others: filters cannot look into
/// the arguments of `clone3`, and the newer calls for mounts and asynchronous input and output are not needed.
const ABSENT: &str =
    "clone3 fsconfig fsmount fsopen fspick io_uring_enter io_uring_register io_uring_setup mount_setattr
    move_mount open_tree";

const ENOSYS: u32 = 38;
/// `CLONE_NEWTIME`, `CLONE_NEWCGROUP` and `CLONE_NEWNET` (clone(2)).
const CLOSED_NAMESPACES: u64 = 0x80 | 0x0200_0000 | 0x4000_0000;
/// `AF_UNIX`, `AF_INET`, `AF_INET6` and `AF_NETLINK` (socket(2)).
const SOCKET_FAMILIES: [u64; 4] = [1, 2, 10, 16];
/// `PER_LINUX`, `PER_LINUX32`, each also with `UNAME26`, and the question for the current one (personality(2)).
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The profile, in Docker's format.
pub(super) fn profile() -> String {
    let names = |list: &str| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let if_first = |names: &[&str], value: u64, other: u64, op: &str| {
        json!({ "names": names, "action": "SCMP_ACT_ALLOW",
            "args": [{ "index": 0, "value": value, "valueTwo": other, "op": op }] })
    };
    let mut calls = vec![
        json!({ "names": names(ALLOWED), "action": "SCMP_ACT_ALLOW" }),
        json!({ "names": names(ABSENT), "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS }),
        if_first(&["clone", "unshare"], CLOSED_NAMESPACES, 0, "SCMP_CMP_MASKED_EQ"),
    ];
    calls.extend(SOCKET_FAMILIES.map(|family| if_first(&["socket"], family, 0, "SCMP_CMP_EQ")));
    calls.extend(PERSONALITIES.map(|persona| if_first(&["personality"], persona, 0, "SCMP_CMP_EQ")));
    let machine = |architecture: &str, sub: &str| json!({ "architecture": format!("SCMP_ARCH_{architecture}"), "subArchitectures": [format!("SCMP_ARCH_{sub}")] });
    let profile: Value = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [machine("X86_64", "X86"), machine("AARCH64", "ARM")],
        "syscalls": calls,
    });
    profile.to_string()
}

//! Is there room for a camera's file descriptors? GLib ends the whole process when it is refused one that it
//! cannot do without, so a pipeline that might run out of them is not begun.

use rustix::process::{Resource, getrlimit};

use super::Fault;
use crate::camera::Reason;

/// More than a pipeline has ever been seen to open (a dozen), with some for others that open at the same time.
const NEEDED: u64 = 32;

/// What keeps a camera from being opened, if anything does.
pub(super) fn shortage() -> Option<Fault> {
    // Without a limit, or above what anybody reaches, nobody counts.
    let limit = getrlimit(Resource::Nofile).current?;
    // One of them reads the directory. If that is refused, all are taken.
    let used = std::fs::read_dir("/proc/self/fd").map_or(limit, |entries| entries.count() as u64 - 1);
    (used.saturating_add(NEEDED) > limit).then(|| Fault {
        reason: Reason::Internal,
        detail: format!(
            "{used} of {limit} file descriptors are in use, and a camera may need {NEEDED}: raise LimitNOFILE= in the \
             unit (ulimit -n in a shell), or find out who holds them"
        ),
    })
}

//! The volume of the data directory: its room, and how long a write of the log takes on it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::statvfs::{FsFlags, statvfs};

use super::Finding;
use crate::types::Timing;

/// One probe writes as much as a busy turn of the log.
const PROBE_BYTES: usize = 16 << 10;
/// So many probes, of which the median counts.
const PROBES: usize = 9;
/// A disk that has not answered by then hangs.
const PROBES_MAX: Duration = Duration::from_secs(10);
/// Segments for which there should be room: the one that comes next, and two spares.
const SEGMENTS_LEAST: u64 = 3;
/// And for which there had better be.
const SEGMENTS_COMFORTABLE: u64 = 16;

/// Room on a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes that this user may still write.
    pub free: u64,
    /// Bytes of the whole volume.
    pub total: u64,
    /// Files that may still be made; none where the file system does not count them.
    pub files_free: Option<u64>,
    /// Nothing can be written at all.
    pub read_only: bool,
}

/// Looks at the volume of a directory.
pub fn room(directory: &Path, segment_bytes: u64) -> Finding {
    match measure_room(directory) {
        Ok(room) => judge_room(&room, segment_bytes),
        Err(error) => {
            Finding::warn(ROOM, format!("the volume does not tell its room: {error}"), "see `df` on the data directory")
        }
    }
}

fn measure_room(directory: &Path) -> io::Result<Room> {
    let volume = statvfs(directory)?;
    let unit = volume.fragment_size();
    Ok(Room {
        free: volume.blocks_available().saturating_mul(unit),
        total: volume.blocks().saturating_mul(unit),
        files_free: (volume.files() > 0).then(|| volume.files_available()),
        read_only: volume.flags().contains(FsFlags::ST_RDONLY),
    })
}

const ROOM: &str = "disk";

fn judge_room(room: &Room, segment_bytes: u64) -> Finding {
    let what = format!("{} free of {}", size(room.free), size(room.total));
    if room.read_only {
        return Finding::fail(ROOM, format!("{what}, mounted read-only"), "mount the volume of data_dir for writing");
    }
    if room.files_free == Some(0) {
        return Finding::fail(
            ROOM,
            format!("{what}, and no file can be made (no inodes)"),
            "remove files on the volume",
        );
    }
    let needs = |segments: u64| segments.saturating_mul(segment_bytes);
    let full = format!(
        "a full disk refuses publishes; free space on the volume of data_dir, or set a larger one ({} at least)",
        size(needs(SEGMENTS_COMFORTABLE))
    );
    if room.free < needs(SEGMENTS_LEAST) {
        let what =
            format!("{what}: no room for the next {SEGMENTS_LEAST} segments of the log ({} each)", size(segment_bytes));
        return Finding::fail(ROOM, what, full);
    }
    if room.free < needs(SEGMENTS_COMFORTABLE) {
        return Finding::warn(ROOM, format!("{what}; the log is kept whole, and grows"), full);
    }
    Finding::ok(ROOM, what)
}

/// What the writes took: the median, and the slowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speed {
    /// Half of them took less.
    pub median: Duration,
    /// None took more.
    pub slowest: Duration,
}

/// Writes and syncs a file of its own in the directory a few times, and removes it. A disk that hangs is left behind: its
/// thread ends with the process.
pub fn speed(directory: &Path, timing: &Timing) -> Finding {
    let (sender, measured) = mpsc::channel();
    let path = directory.join(format!("doctor-{}.probe", std::process::id()));
    // Nobody listens any more once the time is over.
    let spawned = std::thread::Builder::new().spawn(move || drop(sender.send(measure_speed(path))));
    let outcome = match spawned {
        Ok(_) => measured.recv_timeout(PROBES_MAX),
        Err(error) => Ok(Err(error)),
    };
    match outcome {
        Ok(Ok(speed)) => judge_speed(speed, timing),
        Ok(Err(error)) => Finding::fail(
            SPEED,
            format!("a file in {} cannot be written and synced: {error}", directory.display()),
            "see to permissions and the disk: a member that cannot write its log stops (exit code 74)",
        ),
        Err(_) => Finding::fail(
            SPEED,
            format!("the disk has not answered for {} s", PROBES_MAX.as_secs()),
            "it hangs: see the system's log (`dmesg`), and the storage behind it",
        ),
    }
}

fn measure_speed(path: PathBuf) -> io::Result<Speed> {
    let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    let measured = probes(&file);
    fs::remove_file(&path)?;
    measured
}

/// As in the log: room of zeros first, then a write and a sync at a time that change no metadata.
fn probes(file: &File) -> io::Result<Speed> {
    file.write_all_at(&vec![0; PROBES * PROBE_BYTES], 0)?;
    file.sync_all()?;
    let probe = vec![1; PROBE_BYTES];
    let mut took = Vec::with_capacity(PROBES);
    for number in 0..PROBES {
        let began = Instant::now();
        file.write_all_at(&probe, (number * PROBE_BYTES) as u64)?;
        file.sync_data()?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    Ok(Speed { median: took[PROBES / 2], slowest: took[PROBES - 1] })
}

const SPEED: &str = "disk sync";

fn judge_speed(speed: Speed, timing: &Timing) -> Finding {
    let what = format!(
        "a write of {} and its sync take {} (median of {PROBES}), the slowest {}",
        size(PROBE_BYTES as u64),
        milliseconds(speed.median),
        milliseconds(speed.slowest)
    );
    if speed.slowest >= timing.leader_timeout {
        let advice = "a leader that waits so long is replaced: use a disk that syncs faster, find out what else writes to \
                      this one, or raise timing.leader_timeout on all members";
        return Finding::warn(SPEED, format!("{what}, longer than timing.leader_timeout"), advice);
    }
    if speed.median >= timing.heartbeat {
        let advice = "every message waits for it at a majority: use a disk that syncs faster, or find out what else writes \
                      to this one";
        return Finding::warn(SPEED, what, advice);
    }
    Finding::ok(SPEED, what)
}

/// For people: to a tenth of a millisecond.
pub fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

/// For people: in the largest unit of which there is one, to a tenth.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1 << 10 {
        return format!("{bytes} B");
    }
    let exponent = (bytes.ilog2() / 10).min(UNITS.len() as u32);
    let quantity = bytes as f64 / 1024_f64.powi(exponent as i32);
    let unit = UNITS[exponent as usize - 1];
    if quantity >= 10.0 || quantity.fract() == 0.0 {
        format!("{quantity:.0} {unit}")
    } else {
        format!("{quantity:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn room_is_judged_by_what_the_log_needs_next() {
        let room = |free| Room { free, total: 100 << 30, files_free: Some(9), read_only: false };
        let state = |room: Room| judge_room(&room, 64 << 20).state;
        assert_eq!(state(room(90 << 30)), State::Ok);
        assert_eq!(state(room(512 << 20)), State::Warn);
        assert_eq!(state(room(100 << 20)), State::Fail);
        assert_eq!(state(Room { files_free: Some(0), ..room(90 << 30) }), State::Fail);
        assert_eq!(state(Room { files_free: None, ..room(90 << 30) }), State::Ok);
        assert_eq!(state(Room { read_only: true, ..room(90 << 30) }), State::Fail);
    }

    #[test]
    fn a_slow_disk_is_told_by_what_it_does_to_the_group() {
        let judged = |median, slowest| {
            let speed = Speed { median: Duration::from_millis(median), slowest: Duration::from_millis(slowest) };
            judge_speed(speed, &Timing::default())
        };
        assert_eq!(judged(2, 20).state, State::Ok);
        let often = judged(60, 70);
        assert!(often.state == State::Warn && often.advice.unwrap().contains("every message"));
        let once = judged(2, 400);
        assert!(once.state == State::Warn && once.advice.unwrap().contains("replaced"));
    }

    #[test]
    fn a_probe_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        assert!(speed(folder.path(), &Timing::default()).what.contains("16 KiB"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let nowhere = speed(&folder.path().join("x"), &Timing::default());
        assert_eq!(nowhere.state, State::Fail);
        assert!(measure_room(folder.path()).unwrap().total > 0);
    }

    #[test]
    fn sizes_are_for_people() {
        let told = [0, 1 << 10, 1536, 64 << 20, 47 << 30, 3 << 40].map(size);
        assert_eq!(told, ["0 B", "1 KiB", "1.5 KiB", "64 MiB", "47 GiB", "3 TiB"]);
    }
}

//! Settings that each member chooses for itself and the ordering core needs. They may differ between members: nothing
//! that is decided depends on them.

use std::time::Duration;

use super::text::duration_text;

/// When a member acts on silence, on a standstill and on a clock that is off. The fields are named as in `synod.toml`
/// under `[timing]`; [`Timing::mistakes`] relates them to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The leader says this often that it lives. At least 1 ms; `leader_timeout` is at least four times as long.
    pub heartbeat: Duration,
    /// Silence of the leader after which a voter complains (T_silence, rule V4); doubles with each view that decided
    /// nothing, up to `timeout_max`.
    pub leader_timeout: Duration,
    /// Standstill, although a batch could be ordered, after which a voter complains (T_progress, rule V4); doubles
    /// likewise. Not below `leader_timeout`.
    pub order_timeout: Duration,
    /// Neither timeout grows beyond this. Not below `order_timeout`.
    pub timeout_max: Duration,
    /// For this long after its own start a member does not complain about silence. Not below `leader_timeout`.
    pub start_grace: Duration,
    /// A member whose clock is further than this from the voters' median is not ready, and does not lead.
    pub clock_drift_max: Duration,
    /// A voter that another voter has not heard for this long is suspected by it, and loses its vote to a ready learner when a
    /// quorum suspects it (rule E4). Not below `timeout_max`.
    pub replace_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            heartbeat: Duration::from_millis(50),
            leader_timeout: Duration::from_millis(300),
            order_timeout: Duration::from_secs(1),
            timeout_max: Duration::from_secs(5),
            start_grace: Duration::from_secs(1),
            clock_drift_max: Duration::from_millis(500),
            replace_after: Duration::from_secs(300),
        }
    }
}

/// Heartbeats that fit into the shortest silence a voter complains about: one may be late without consequence.
pub const HEARTBEATS_PER_LEADER_TIMEOUT: u32 = 4;
/// No timing setting is longer than this: a longer one is a slip of the pen.
pub const TIMING_MAX: Duration = Duration::from_secs(3600);

impl Timing {
    /// Every field with its name.
    pub fn fields(&self) -> [(&'static str, Duration); 7] {
        [
            ("heartbeat", self.heartbeat),
            ("leader_timeout", self.leader_timeout),
            ("order_timeout", self.order_timeout),
            ("timeout_max", self.timeout_max),
            ("start_grace", self.start_grace),
            ("clock_drift_max", self.clock_drift_max),
            ("replace_after", self.replace_after),
        ]
    }

    /// Every mistake, each with field, value, limit and what to do. Empty if the settings can be used.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        for (name, value) in self.fields() {
            if !(Duration::from_millis(1)..=TIMING_MAX).contains(&value) {
                mistakes.push(format!(
                    "timing.{name} = \"{}\" must be between \"1ms\" and \"{}\"",
                    duration_text(value),
                    duration_text(TIMING_MAX)
                ));
            }
        }
        if self.heartbeat.saturating_mul(HEARTBEATS_PER_LEADER_TIMEOUT) > self.leader_timeout {
            mistakes.push(format!(
                "timing.heartbeat = \"{}\" must be at most a quarter of timing.leader_timeout = \"{}\"; lower the first or \
                 raise the second",
                duration_text(self.heartbeat),
                duration_text(self.leader_timeout)
            ));
        }
        let rising = [
            ("leader_timeout", self.leader_timeout, "order_timeout", self.order_timeout),
            ("order_timeout", self.order_timeout, "timeout_max", self.timeout_max),
            ("leader_timeout", self.leader_timeout, "start_grace", self.start_grace),
            ("timeout_max", self.timeout_max, "replace_after", self.replace_after),
        ];
        for (lower_name, lower, upper_name, upper) in rising {
            if lower > upper {
                mistakes.push(format!(
                    "timing.{lower_name} = \"{}\" must be at most timing.{upper_name} = \"{}\"; lower the first or raise \
                     the second",
                    duration_text(lower),
                    duration_text(upper)
                ));
            }
        }
        mistakes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_be_used() {
        assert_eq!(Timing::default().mistakes(), Vec::<String>::new());
    }

    #[test]
    fn every_contradiction_is_told_at_once() {
        let timing = Timing {
            heartbeat: Duration::from_millis(100),
            leader_timeout: Duration::from_millis(300),
            order_timeout: Duration::from_millis(200),
            timeout_max: Duration::from_millis(100),
            start_grace: Duration::ZERO,
            ..Timing::default()
        };
        let mistakes = timing.mistakes();
        assert_eq!(mistakes.len(), 5, "{mistakes:#?}");
    }
}

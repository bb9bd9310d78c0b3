//! Load through several members, each of which can be stopped by itself: before its member leaves, or is restarted.

use std::collections::BTreeMap;

use super::group::Group;
use super::load::{Load, Published};

/// Publishers at work at several members.
#[derive(Default)]
pub struct Loads {
    running: BTreeMap<usize, Load>,
    published: Published,
}

impl Loads {
    /// Publishers at each of these members.
    pub fn start(group: &Group, members: &[usize]) -> Loads {
        let mut loads = Loads::default();
        members.iter().for_each(|member| loads.add(group, *member));
        loads
    }

    /// Publishers at one more member.
    pub fn add(&mut self, group: &Group, member: usize) {
        let before = self.running.insert(member, Load::start_at(group, &[member]));
        assert!(before.is_none(), "member {member} has its load already");
    }

    /// Stops publishing through a member; no publish through it has failed.
    pub async fn stop(&mut self, member: usize) {
        let published = self.running.remove(&member).expect("it has a load").finish().await;
        published.none_failed_at(&[member]);
        self.published.extend(published);
    }

    /// Stops publishing through a member that was killed: what was not answered is perhaps ordered.
    pub async fn abandon(&mut self, member: usize) {
        let published = self.running.remove(&member).expect("it has a load").finish().await;
        self.published.extend(published);
    }

    /// Waits until so many more messages are acknowledged through each of them.
    pub async fn go_on(&self, count: u64) {
        for (member, load) in &self.running {
            load.goes_on(&[*member], count).await;
        }
    }

    /// Stops all; no publish has failed. What is known of all that was published.
    pub async fn finish(mut self) -> Published {
        let members: Vec<usize> = self.running.keys().copied().collect();
        for member in members {
            self.stop(member).await;
        }
        self.published
    }
}

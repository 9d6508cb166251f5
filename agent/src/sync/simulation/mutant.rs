//! The mutants: what the invariants are measured by.

use serde_json::Value;

/// Broken variants of the replication. Each looks right, and each loses or spoils data: the invariants must see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// An older write of our own, whose answer was lost, is taken for a conflict.
    NotMe,
    /// A success removes the change from the log even if there is a newer one.
    AnyN,
    /// The row and its change are written in two transactions.
    LogLater,
    /// Rows are written without a condition.
    Unconditional,
    /// A change that was stored before somebody else wrote is written again over it.
    NoCounter,
    /// The counter of another database file is taken for ours.
    AnySite,
    /// What another device of the same name wrote is taken for ours where the device does not win.
    AnyDevice,
    /// The condition also lets a repeated request through.
    RepeatPasses,
    /// No answer is taken for success.
    Guess,
    /// An item that was deleted from the table is not made anew.
    LeaveDeleted,
    /// The base moves to an item that the device never took, for a newer change was queued.
    TheirsMovesBase,
    /// A row that is on its way is read and sent again.
    Twice,
    /// Fields that the document has no more stay in the item.
    NoRemove,
    /// A refused row is tried before all others.
    HeadOfLine,
    /// What comes from the cloud replaces a row whose change waits.
    ApplyOverPending,
    /// An older version than the one that is known is taken: the index is behind.
    ApplyOlder,
    /// The version of a row that was removed on both sides is forgotten while the index still has the row.
    ForgetRemoved,
    /// Changes are read from the watermark on, without the overlap.
    NoOverlap,
    /// How far the cloud was read is kept before what was read.
    ProgressFirst,
    /// A row that reached the cloud while a range was read is taken for absent from it.
    SweepFresh,
    /// A row that the cloud does not have is removed although its change waits.
    SweepPending,
    /// Where the cloud wins, the device's version is dropped without a word.
    SilentLoss,
}

impl Mutant {
    pub const ALL: [Self; 22] = [
        Self::NotMe,
        Self::AnyN,
        Self::LogLater,
        Self::Unconditional,
        Self::NoCounter,
        Self::AnySite,
        Self::AnyDevice,
        Self::RepeatPasses,
        Self::Guess,
        Self::LeaveDeleted,
        Self::TheirsMovesBase,
        Self::Twice,
        Self::NoRemove,
        Self::HeadOfLine,
        Self::ApplyOverPending,
        Self::ApplyOlder,
        Self::ForgetRemoved,
        Self::NoOverlap,
        Self::ProgressFirst,
        Self::SweepFresh,
        Self::SweepPending,
        Self::SilentLoss,
    ];

    /// A request as the mutant would have made it.
    pub fn spoil(self, mut request: Value) -> Value {
        let condition = request["ConditionExpression"].as_str().unwrap_or_default().to_owned();
        match self {
            Self::Unconditional => drop(request.as_object_mut().unwrap().shift_remove("ConditionExpression")),
            Self::RepeatPasses => request["ConditionExpression"] = format!("{condition} OR #1 = :1").into(),
            Self::NoRemove => {
                let update = request["UpdateExpression"].as_str().unwrap();
                let (sets, removes) = update.split_once(" REMOVE ").unwrap();
                let names = &request["ExpressionAttributeNames"];
                let is_foreign = |name: &&str| ["_ts", "gpk", "ttl"].iter().any(|foreign| names[*name] == *foreign);
                let foreign: Vec<_> = removes.split(',').filter(is_foreign).collect();
                request["UpdateExpression"] = format!("{sets} REMOVE {}", foreign.join(",")).into();
            }
            _ => {}
        }
        request
    }
}

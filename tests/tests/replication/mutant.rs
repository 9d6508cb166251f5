//! Broken devices: what the judgement is measured by. The link makes one of a sound device, by what it does to its
//! requests and to the answers that it gets.

use serde_json::Value;

/// Variants that look right and lose or spoil data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Rows are written without a condition.
    Unconditional,
    /// The condition also lets a repeated request through.
    RepeatPasses,
    /// No answer is taken for success.
    Guess,
    /// An older write of our own, whose answer was lost, is taken for a conflict.
    NotMe,
    /// A change that was stored before somebody else wrote is written again over it.
    NoCounter,
    /// Fields that the document has no more stay in the item.
    NoRemove,
    /// What is overwritten is not kept.
    NoLog,
}

impl Mutant {
    pub const ALL: [Self; 7] = [
        Self::Unconditional,
        Self::RepeatPasses,
        Self::Guess,
        Self::NotMe,
        Self::NoCounter,
        Self::NoRemove,
        Self::NoLog,
    ];

    /// Whether a request is taken for done that nobody got.
    pub fn swallows(self, random: &mut fastrand::Rng) -> bool {
        self == Self::Guess && random.u8(..10) == 0
    }

    /// A request as the mutant would have made it.
    pub fn spoil(self, mut request: Value) -> Value {
        let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
        let (condition, update) = (text("ConditionExpression"), text("UpdateExpression"));
        match self {
            Self::Unconditional => {
                request.as_object_mut().and_then(|fields| fields.remove("ConditionExpression"));
                if let Some(values) = request["ExpressionAttributeValues"].as_object_mut() {
                    // A value that is not used is an error.
                    values.retain(|name, _| !condition.ends_with(&format!(" {name}")));
                }
            }
            Self::RepeatPasses => request["ConditionExpression"] = format!("{condition} OR #1 = :1").into(),
            Self::NoRemove => {
                let sets = update.split(" REMOVE ").next().unwrap_or_default();
                request["UpdateExpression"] = sets.into();
                if let Some(names) = request["ExpressionAttributeNames"].as_object_mut() {
                    names.retain(|name, _| sets.contains(&format!("{name}=")) || condition.contains(name.as_str()));
                }
            }
            _ => {}
        }
        request
    }

    /// A refusal as the mutant would have understood it.
    pub fn spoil_answer(self, mut body: Value) -> Value {
        let Some(item) = body.get_mut("Item").and_then(Value::as_object_mut) else { return body };
        match self {
            Self::NotMe => {
                let is_device = item.get("_w").is_some_and(|writer| writer["S"] != "cloud:test");
                if is_device {
                    item.insert("_w".into(), serde_json::json!({"S": "another"}));
                }
            }
            Self::NoCounter => drop(item.insert("_dn".into(), serde_json::json!({"N": "0"}))),
            _ => {}
        }
        body
    }
}

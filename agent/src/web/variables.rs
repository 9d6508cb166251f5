//! What a client says by name: in the query and in the body, in one place.

use serde_json::Value;

use super::form::Form;
use super::{Error, Exchange};

impl Exchange {
    /// All variables of the request: the fields of a body that is a form (`application/x-www-form-urlencoded`) or a JSON object,
    /// and after them those of the query. [`Form::get`] so prefers the body. Of JSON, texts are taken as they are, numbers and
    /// `true` as they are written, `null` as nothing, lists and objects as JSON. Bodies of other types are left unread, where no signature validated them.
    ///
    /// # Errors
    /// 400 when the body is not what its type says, or JSON that is no object; 415 for a form in another character set; 413 for
    /// more than 1000 variables; and those of [`Exchange::bytes`].
    pub async fn variables(&self) -> Result<Form, Error> {
        let media = match self.header("content-type") {
            Some(_) => Some(self.media_type()?),
            None => None,
        };
        let mut variables = match media {
            Some(media) if media.is("application/x-www-form-urlencoded") => self.form().await?,
            Some(media) if media.is("application/json") => members(self.json().await?)?,
            // A signature may have taken it for JSON all the same.
            _ => match self.validation.as_ref().and_then(|validation| validation.json()) {
                Some(valid @ Value::Object(_)) => members(valid)?,
                _ => Form::default(),
            },
        };
        for (name, value) in self.queries() {
            variables.push(name, value)?;
        }
        Ok(variables)
    }
}

fn members(json: Value) -> Result<Form, Error> {
    let Value::Object(members) = json else { return Err(Error::status(400, "the body is no JSON object")) };
    let mut form = Form::default();
    for (name, value) in members {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text,
            other => other.to_string(),
        };
        form.push(name, text)?;
    }
    Ok(form)
}

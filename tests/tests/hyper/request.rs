//! What a server understood of a request, in a form that two servers can be compared by.

/// One request with its body.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    method: String,
    authority: Option<String>,
    path: String,
    is_http11: bool,
    /// Names in lower case, sorted; fields of one name keep their order.
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    pub fn new(
        method: &str,
        authority: Option<&str>,
        path: &str,
        is_http11: bool,
        fields: impl Iterator<Item = (String, Vec<u8>)>,
        body: Vec<u8>,
    ) -> Self {
        let mut fields: Vec<_> = fields.map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        fields.sort_by(|(a, _), (b, _)| a.cmp(b));
        Self {
            method: method.to_owned(),
            authority: authority.map(str::to_owned),
            path: path.to_owned(),
            is_http11,
            fields,
            body,
        }
    }
}

//! How long clients may keep a file (RFC 9111 §5.2.2).

use crate::config::WebCache;

/// The value of `Cache-Control` for the file, if the settings say anything about it.
pub(super) fn cache_control(cache: &WebCache, path: &str) -> Option<String> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let is_meant = |known: &String| known.eq_ignore_ascii_case(extension);
    if !cache.extensions.is_empty() && !cache.extensions.iter().any(is_meant) {
        return None;
    }
    let age = cache.max_age.map(|age| format!("max-age={}", age.as_secs()));
    let all: Vec<_> = cache.directives.iter().cloned().chain(age).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn directives_and_age_are_told_of_the_files_that_are_meant() {
        let mut cache = WebCache {
            max_age: Some(Duration::from_secs(3600)),
            directives: vec!["public".to_owned(), "immutable".to_owned()],
            extensions: vec!["css".to_owned()],
        };
        let expected = Some("public, immutable, max-age=3600".to_owned());
        assert_eq!(cache_control(&cache, "a/b.min.CSS"), expected);
        assert_eq!(cache_control(&cache, "a.css/b.html"), None);
        assert_eq!(cache_control(&cache, "css"), None);
        cache.extensions.clear();
        assert_eq!(cache_control(&cache, "any"), expected);
        assert_eq!(cache_control(&WebCache::default(), "any"), None);
    }
}

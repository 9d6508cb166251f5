//! What the web server needs of the file system.

use std::path::Path;

use crate::config::{AccessTarget, Config, ProxyTarget, Scheme, Tls, Web};
use crate::system::sandbox::Needs;

/// Pages, uploads, the access log, certificates, sockets, programs behind it.
pub fn needs(needs: &mut Needs, config: &Config) {
    if config.services.web {
        pages(needs, &config.web);
        certificates(needs, &config.tls);
        neighbours(needs, &config.web);
    }
}

fn pages(needs: &mut Needs, web: &Web) {
    let writes =
        web.routes.iter().any(|route| route.methods.iter().any(|method| method == "PUT" || method == "DELETE"));
    if writes {
        needs.write(&web.documents);
    } else {
        needs.read(&web.documents);
    }
    needs.write(&web.upload.dir);
    // It is made at the first upload; a rule is for what is there.
    if !web.upload.dir.exists() {
        needs.write(above(&web.upload.dir));
    }
    if web.signatures.enable {
        needs.file(&web.signatures.path);
    }
    if let AccessTarget::File(path) = &web.access_log.target {
        // Rotation names other files beside it.
        needs.write(path.parent().unwrap_or(path));
    }
}

fn certificates(needs: &mut Needs, tls: &Tls) {
    let named = tls.certificates.iter().flat_map(|one| [&one.certificate, &one.key]);
    let single = [&tls.certificate, &tls.key, &tls.authority, &tls.crl].into_iter().flatten();
    for file in single.chain(named) {
        needs.file(file);
    }
}

/// The programs behind the server, and the sockets on which it listens itself. Connecting to a socket needs no right here.
fn neighbours(needs: &mut Needs, web: &Web) {
    for proxy in web.routes.iter().filter_map(|route| route.proxy.as_ref()) {
        if let ProxyTarget::Program(words) = &proxy.target {
            // `/usr/bin/python3 /opt/app/main.py`: the second word is the program rather than the first.
            words.iter().map(Path::new).filter(|word| word.is_absolute()).for_each(|word| program(needs, word));
        }
    }
    for listen in web.listen.iter().filter(|listen| listen.scheme == Scheme::Unix) {
        needs.write(above(Path::new(&listen.host)));
    }
}

/// The program with the files around it, as far as these are its own.
fn program(needs: &mut Needs, path: &Path) {
    let around = path.parent().filter(|parent| parent.components().count() > 2);
    needs.execute(around.unwrap_or(path));
}

/// The next directory above.
fn above(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{Listen, Route};
    use crate::system::sandbox::Use;

    fn of(web: Web) -> Vec<(String, Use)> {
        let mut needs = Needs::default();
        let services = crate::config::Services { web: true, ..Default::default() };
        super::needs(&mut needs, &Config { web, services, ..Config::default() });
        needs.rows().map(|(path, use_)| (path.display().to_string(), use_)).collect()
    }

    #[test]
    fn pages_are_written_only_where_a_route_lets_clients_do_so() {
        let documents = |use_| ("/usr/share/ioto/www".to_owned(), use_);
        assert!(of(Web::default()).contains(&documents(Use::Read)));
        let routes = vec![Route { methods: vec!["PUT".into()], ..Route::default() }];
        assert!(of(Web { routes, ..Web::default() }).contains(&documents(Use::Write)));
    }

    #[test]
    fn programs_are_granted_with_the_files_around_them() {
        let mut route = Route::default();
        let words = vec!["/usr/bin/python3".to_owned(), "/srv/app/main.py".to_owned(), "-v".to_owned()];
        let target = ProxyTarget::Program(words);
        route.proxy = Some(crate::config::Proxy { target, base: String::new() });
        let rows = of(Web { routes: vec![route], ..Web::default() });
        assert!(rows.contains(&("/srv/app".into(), Use::Execute)) && rows.contains(&("/usr".into(), Use::Execute)));
        assert!(of(Web::default()).iter().all(|(_, use_)| *use_ != Use::Execute));
    }

    #[test]
    fn a_socket_file_can_be_made_and_removed() {
        let listen: Vec<Listen> = vec!["unix:/run/app/web.sock".parse().unwrap()];
        assert!(of(Web { listen, ..Web::default() }).contains(&("/run/app".into(), Use::Write)));
    }
}

//! Files of others, of newer programs and with flipped bits are told apart.
#![allow(clippy::unwrap_used)]

use super::*;

const KIND: Kind = Kind {
    name: "notebook",
    application: 0x1234_5678,
    format: 2,
    unit: 0x0101_0101,
    cache: 64,
    checkpoint: 16,
    log: 1 << 16,
    is_durable: true,
    is_exclusive: false,
};

#[test]
fn a_file_is_ours_or_newer_or_foreign() {
    let foreign = || Found::Foreign("it is no notebook of this program".into());
    let rows = [
        (0, 0, Found::Ours),
        (KIND.unit, KIND.application, Found::Ours),
        (KIND.unit * 2, KIND.application, Found::Ours),
        (KIND.unit * 3, KIND.application, Found::Newer(3)),
        // One bit flipped, in each of the two.
        (KIND.unit * 2 + 4, KIND.application, foreign()),
        (KIND.unit * 2, KIND.application + 1, foreign()),
        (0, KIND.application, foreign()),
        (KIND.unit, 0, foreign()),
        (-KIND.unit, KIND.application, foreign()),
    ];
    let connection = Connection::open_in_memory().unwrap();
    for (version, application, found) in rows {
        connection.pragma_update(None, "user_version", version).unwrap();
        connection.pragma_update(None, "application_id", application).unwrap();
        assert_eq!(KIND.find(&connection).unwrap(), found, "{version:#x} {application:#x}");
    }
    KIND.mark(&connection).unwrap();
    assert_eq!(KIND.find(&connection).unwrap(), Found::Ours);
}

#[test]
fn what_is_marked_is_not_written_again() {
    let directory = std::env::temp_dir().join(format!("ioto-sqlite-{:016x}", fastrand::u64(..)));
    let path = directory.join("notebook");
    make_directory(&path).and_then(|()| make_file(&path)).unwrap();
    let connection = KIND.connect(&path).unwrap();
    KIND.mark(&connection).unwrap();
    let size = log_size(&path);
    assert!(size > 0);
    KIND.mark(&connection).unwrap();
    assert_eq!(log_size(&path), size, "a disk may have no room for it");
    fs::remove_dir_all(directory).unwrap();
}

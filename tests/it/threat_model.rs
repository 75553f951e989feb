//! Every test that the threat model names is there.

use std::{fs, path::Path};

#[test]
fn every_test_it_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("src/docs/threat_model.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let proofs = rows.filter_map(|row| row.trim_end_matches([' ', '|']).rsplit('|').next());
    let names = proofs.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let mut count = 0;
    for name in names {
        let (module, test) = name.rsplit_once("::").unwrap_or_else(|| panic!("{name}"));
        let file = format!("{}.rs", module.replace("::", "/"));
        // A unit test may stand at the end of its file, in a module of that file's own.
        let inline = file.strip_suffix("/tests.rs").map(|file| format!("{file}.rs"));
        let places = [
            Some(format!("tests/it/{file}")),
            Some(format!("src/{file}")),
            inline.map(|file| format!("src/{file}")),
        ];
        let is_there = places.iter().flatten().any(|place| {
            let source = fs::read_to_string(root.join(place)).unwrap_or_default();
            source.contains(&format!("fn {test}("))
        });
        assert!(is_there, "{name}");
        count += 1;
    }
    assert!(count > 40, "{count} names");
}

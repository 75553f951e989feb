//! Checks that every test in the table of the threat model exists.

use std::{fs, path::Path};

#[test]
fn tests_in_the_table_of_the_threat_model_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("src/docs/threat_model.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.trim_end_matches([' ', '|']).rsplit('|').next());
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let mut count = 0;
    for name in names {
        let (module, test) = name.rsplit_once("::").unwrap_or_else(|| panic!("{name}"));
        let file = format!("{}.rs", module.replace("::", "/"));
        // A unit test may be in a file `tests.rs`, or in a `tests` module at the end of the tested
        // file.
        let parent = file.strip_suffix("/tests.rs").unwrap_or(&file);
        let places = [
            format!("tests/it/{file}"),
            format!("src/{file}"),
            format!("src/{parent}.rs"),
            format!("src/{parent}/mod.rs"),
        ];
        let exists = places.iter().any(|place| {
            let source = fs::read_to_string(root.join(place)).unwrap_or_default();
            source.contains(&format!("fn {test}("))
        });
        assert!(exists, "{name}");
        count += 1;
    }
    assert!(count > 40, "{count} names");
}

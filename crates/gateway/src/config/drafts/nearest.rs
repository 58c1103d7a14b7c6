//! The name somebody probably meant.

/// What to say of an unknown name: the nearest of `known`, or where to look. All of them begin with `prefix`, which makes none
/// of them nearer.
pub(super) fn advice(prefix: &str, name: &str, known: impl Iterator<Item = String>, what: &str) -> String {
    let short = |name: String| name.strip_prefix(prefix).map(str::to_owned).unwrap_or(name);
    match nearest(&short(name.to_owned()), known.map(short)) {
        Some(near) => format!("did you mean {prefix}{near}?"),
        None => format!("`handover gateway --list-keys` shows all {what}"),
    }
}

/// The known name with the fewest edits to `name`, unless it is so far off that it would mislead.
fn nearest(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    // Comparing takes the product of the lengths: a name of a megabyte is no slip of the hand.
    if name.len() > 100 {
        return None;
    }
    // A third of the letters: with more, short names that have nothing in common are near.
    let edits_max = (name.len() / 3).clamp(1, 3);
    let distance = |known: &String| {
        let known = known.trim_matches(['[', ']']);
        let last = known.rsplit('.').next().unwrap_or(known);
        // A key written outside its table is the other way to miss it.
        edits(name, known).min(edits(name, last) + usize::from(last != known && last != name))
    };
    let best = known.map(|known| (distance(&known), known)).min()?;
    (best.0 <= edits_max).then_some(best.1)
}

/// Levenshtein's distance: insertions, deletions and replacements of bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(!x.eq_ignore_ascii_case(&y));
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted_as_levenshtein_counts_them() {
        for (a, b, distance) in [("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("same", "SAME", 0)] {
            assert_eq!(edits(a, b), distance, "{a} {b}");
            assert_eq!(edits(b, a), distance, "{b} {a}");
        }
    }

    #[test]
    fn a_slip_is_recognised_and_nonsense_is_not() {
        let known = || ["listen", "limits.header_timeout", "workers"].map(str::to_owned).into_iter();
        assert_eq!(nearest("lisen", known()).as_deref(), Some("listen"));
        assert_eq!(nearest("header_timeout", known()).as_deref(), Some("limits.header_timeout"));
        assert_eq!(nearest("heder_timeout", known()).as_deref(), Some("limits.header_timeout"));
        assert_eq!(nearest("colour", known()), None);
        assert_eq!(nearest("", known()), None);
    }
}

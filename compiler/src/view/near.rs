//! Names that may have been meant.

/// Names offered in place of one that is not there.
const OFFERED: usize = 3;

/// Those of `names` nearest to `asked`, nearest first: what contains it, then what differs by the fewest letters.
pub fn near<'n>(asked: &str, names: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
    let mut scored: Vec<(usize, &str)> = names
        .into_iter()
        .map(|name| match name.contains(asked) {
            true => (0, name),
            false => (distance(asked, name), name),
        })
        .collect();
    scored.sort();
    scored.dedup();
    scored
        .into_iter()
        .map(|(_, name)| name)
        .take(OFFERED)
        .collect()
}

/// Letters to insert, leave out or replace on the way from one name to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
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
    fn the_nearest_names_come_first() {
        let names = [
            "layers.{i}.mlp.up_proj",
            "lm_head",
            "layers.{i}.attention.q_proj",
        ];
        assert_eq!(near("lm_haed", names)[0], "lm_head");
        assert_eq!(near("q_proj", names)[0], "layers.{i}.attention.q_proj");
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}

//! The table `[isolation]` of `par.toml`: how agents are kept apart.

use par_model::Profile;

use super::Mistake;
use super::table::{Notes, Value};
use crate::walls::IsolationSettings;

const KNOWN: [&str; 2] = ["profile", "minimum"];
const AUTO: &str = "auto";

/// What was written, with the places; not compared yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) profile: Option<(String, String)>,
    pub(super) minimum: Option<(String, String)>,
}

pub(super) fn read(value: &Value<'_>, notes: &mut Notes<'_>) -> Written {
    let mut written = Written::default();
    let Some(table) = notes.table("isolation", value) else {
        return written;
    };
    for (key, value) in table {
        let place = notes.place(&value.span());
        let name = key.get_ref().as_ref();
        match name {
            "profile" => written.profile = notes.text(name, value).map(|text| (place, text)),
            "minimum" => written.minimum = notes.text(name, value).map(|text| (place, text)),
            unknown => notes.unknown(unknown, &key.span(), &KNOWN),
        }
    }
    written
}

/// A profile that is named is the operator's word, and so is the least unless another least is named, too.
pub(super) fn settle(written: Written, mistakes: &mut Vec<Mistake>) -> IsolationSettings {
    let usual = IsolationSettings::default();
    let place = written.profile.as_ref().map(|(place, _)| place.clone());
    let profile = written.profile.filter(|(_, word)| word != AUTO);
    let profile = profile.and_then(|written| parse(written, mistakes));
    let minimum = written.minimum.and_then(|written| parse(written, mistakes));
    if let (Some(profile), Some(minimum), Some(place)) = (profile, minimum, place)
        && profile < minimum
    {
        let message = format!("profile `{profile}` is less than the minimum, `{minimum}`");
        mistakes.push(Mistake { place, message });
    }
    let least = profile.map_or(usual.minimum, |profile| profile.min(usual.minimum));
    IsolationSettings {
        profile,
        minimum: minimum.unwrap_or(least),
    }
}

fn parse((place, word): (String, String), mistakes: &mut Vec<Mistake>) -> Option<Profile> {
    let parsed = word.parse();
    parsed
        .map_err(|message| mistakes.push(Mistake { place, message }))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(profile: Option<&str>, minimum: Option<&str>) -> Result<IsolationSettings, String> {
        let word =
            |word: Option<&str>, place: &str| word.map(|word| (place.to_owned(), word.to_owned()));
        let written = Written {
            profile: word(profile, "p"),
            minimum: word(minimum, "m"),
        };
        let mut mistakes = vec![];
        let settings = settle(written, &mut mistakes);
        match mistakes.first() {
            None => Ok(settings),
            Some(mistake) => Err(format!("{}: {}", mistake.place, mistake.message)),
        }
    }

    #[test]
    fn the_default_is_the_best_and_restricted_at_least() {
        let settings = settled(Some("auto"), None).expect("settled");
        assert_eq!(
            settings,
            IsolationSettings {
                profile: None,
                minimum: Profile::Restricted
            }
        );
    }

    #[test]
    fn unsafe_is_used_when_it_is_named_and_not_otherwise() {
        let settings = settled(Some("unsafe"), None).expect("settled");
        assert_eq!(settings.candidates().collect::<Vec<_>>(), [Profile::Unsafe]);
        let settings = settled(None, None).expect("settled");
        assert!(
            settings
                .candidates()
                .all(|profile| profile != Profile::Unsafe)
        );
    }

    #[test]
    fn mistakes_name_their_place() {
        assert!(
            settled(Some("hope"), None)
                .expect_err("no profile")
                .starts_with("p: `hope`")
        );
        let less = settled(Some("userns"), Some("full")).expect_err("too little");
        assert_eq!(less, "p: profile `userns` is less than the minimum, `full`");
    }
}

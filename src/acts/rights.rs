//! Who may act. Judged when an act is carried out, by what the homeserver says of the sender at that moment.

use crate::{
    config::Actions,
    model::{ActKind, Member, Trust},
};

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    NotJoined,
    /// Neither the power level nor the list of users allows it. `needs`: the level that would.
    NoRight {
        needs: Option<i64>,
        has: i64,
    },
    /// The room is encrypted, and the command was not.
    NotEncrypted,
    /// It came from a device that its owner has not signed.
    Unsigned,
    /// The device or identity does not belong to the sender.
    Violated,
    /// In an encrypted room the power level alone does not allow a silence.
    PowerNotTrusted,
    /// In an encrypted room a reaction does not silence.
    ReactionNotTrusted,
}

impl Denial {
    /// Whether it is about the person, so that one refusal for a while is enough: what else they ask for ends alike.
    #[must_use]
    pub fn is_about_the_person(self) -> bool {
        matches!(self, Self::NotJoined | Self::NoRight { .. })
    }
}

/// Who asks for what, and how.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub kind: ActKind,
    pub by_reaction: bool,
    pub sender: &'a str,
    /// How far the sender of the event is proven; `Plain` for what Matrix does not encrypt.
    pub trust: Trust,
    /// Whether the event is encrypted in encrypted rooms: a command is, a reaction or redaction never.
    pub is_encryptable: bool,
    /// It undoes what the same sender asked for.
    pub undoes_own: bool,
}

/// # Errors
/// When the sender may not.
pub fn judge(asked: &Asked<'_>, member: &Member, actions: &Actions) -> Result<(), Denial> {
    if asked.undoes_own {
        return Ok(());
    }
    if !member.is_joined {
        return Err(Denial::NotJoined);
    }
    if member.room_is_encrypted && asked.is_encryptable {
        match asked.trust {
            Trust::Signed => {}
            Trust::Plain => return Err(Denial::NotEncrypted),
            Trust::Unsigned => return Err(Denial::Unsigned),
            Trust::Violated => return Err(Denial::Violated),
        }
    }
    let is_listed = actions.allow.users.iter().any(|user| user == asked.sender);
    let has_power = actions.allow.power.is_some_and(|power| member.power >= power);
    if is_listed || has_power {
        return silence_in_encrypted_room(asked, member, actions, is_listed);
    }
    let needs = if asked.kind.only_reads() { Some(actions.read) } else { actions.allow.power };
    match needs {
        Some(needs) if asked.kind.only_reads() && member.power >= needs => Ok(()),
        needs => Err(Denial::NoRight { needs, has: member.power }),
    }
}

/// Power levels and reactions are the homeserver's word alone, and a silence hides what fires.
fn silence_in_encrypted_room(
    asked: &Asked<'_>,
    member: &Member,
    actions: &Actions,
    is_listed: bool,
) -> Result<(), Denial> {
    if asked.kind != ActKind::Silence || !member.room_is_encrypted {
        return Ok(());
    }
    if asked.by_reaction && !actions.trust_reactions {
        return Err(Denial::ReactionNotTrusted);
    }
    if !is_listed && !actions.trust_power {
        return Err(Denial::PowerNotTrusted);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Allow;

    const LISTED: &str = "@oncall:example.org";
    const OTHER: &str = "@other:example.org";

    fn actions() -> Actions {
        Actions {
            allow: Allow { power: Some(50), users: vec![LISTED.to_owned()] },
            read: 0,
            prefix: "!".to_owned(),
            silence: Duration::from_hours(2),
            max_silence: Duration::from_hours(24),
            reactions: true,
            trust_reactions: false,
            trust_power: false,
        }
    }

    fn member(power: i64, is_encrypted: bool) -> Member {
        Member { is_joined: true, power, name: String::new(), room_is_encrypted: is_encrypted }
    }

    fn asked(kind: ActKind, sender: &str, trust: Trust) -> Asked<'_> {
        Asked { kind, by_reaction: false, sender, trust, is_encryptable: true, undoes_own: false }
    }

    fn reaction(kind: ActKind, sender: &str) -> Asked<'_> {
        Asked { by_reaction: true, is_encryptable: false, ..asked(kind, sender, Trust::Plain) }
    }

    #[test]
    fn power_or_list_decides_for_those_who_are_joined() {
        use ActKind::{Silence, Take, Why};
        let none = |has| Err(Denial::NoRight { needs: Some(50), has });
        for (kind, sender, power, expected) in [
            (Take, OTHER, 50, Ok(())),
            (Take, OTHER, i64::MAX, Ok(())),
            (Take, OTHER, 49, none(49)),
            (Take, LISTED, 0, Ok(())),
            (Take, LISTED, -5, Ok(())),
            (Silence, OTHER, 0, none(0)),
            (Why, OTHER, 0, Ok(())),
            (Why, OTHER, -1, Err(Denial::NoRight { needs: Some(0), has: -1 })),
            (Why, LISTED, -1, Ok(())),
        ] {
            let found = judge(&asked(kind, sender, Trust::Plain), &member(power, false), &actions());
            assert_eq!(found, expected, "{kind:?} {sender} {power}");
        }
        let gone = Member { is_joined: false, ..member(100, false) };
        for kind in ActKind::ALL {
            assert_eq!(
                judge(&asked(kind, LISTED, Trust::Plain), &gone, &actions()),
                Err(Denial::NotJoined),
                "{kind:?}"
            );
        }
        let nobody = Actions { allow: Allow { power: None, users: Vec::new() }, ..actions() };
        let creator = judge(&asked(Take, OTHER, Trust::Plain), &member(i64::MAX, false), &nobody);
        assert_eq!(creator, Err(Denial::NoRight { needs: None, has: i64::MAX }));
    }

    /// The cases of "Must show", as far as they are about rights.
    #[test]
    fn what_counts_in_an_encrypted_room() {
        use ActKind::{Silence, Take, Unsilence, Why};
        let (trusting, powerful) =
            (Actions { trust_reactions: true, ..actions() }, Actions { trust_power: true, ..actions() });
        let both = Actions { trust_reactions: true, trust_power: true, ..actions() };
        let plain = actions();
        for (what, asked, power, actions, expected) in [
            ("unencrypted command", asked(Take, LISTED, Trust::Plain), 100, &plain, Err(Denial::NotEncrypted)),
            ("unencrypted question", asked(Why, OTHER, Trust::Plain), 100, &plain, Err(Denial::NotEncrypted)),
            ("unsigned device", asked(Take, LISTED, Trust::Unsigned), 100, &plain, Err(Denial::Unsigned)),
            ("stolen identity", asked(Silence, LISTED, Trust::Violated), 100, &plain, Err(Denial::Violated)),
            ("signed, by power", asked(Take, OTHER, Trust::Signed), 50, &plain, Ok(())),
            ("silence by power", asked(Silence, OTHER, Trust::Signed), 100, &plain, Err(Denial::PowerNotTrusted)),
            ("silence by trusted power", asked(Silence, OTHER, Trust::Signed), 50, &powerful, Ok(())),
            ("silence by the list", asked(Silence, LISTED, Trust::Signed), 0, &plain, Ok(())),
            ("unsilence by power", asked(Unsilence, OTHER, Trust::Signed), 50, &plain, Ok(())),
            ("forged taking", reaction(Take, OTHER), 50, &plain, Ok(())),
            (
                "taking without the right",
                reaction(Take, OTHER),
                0,
                &plain,
                Err(Denial::NoRight { needs: Some(50), has: 0 }),
            ),
            ("silence by reaction", reaction(Silence, LISTED), 100, &plain, Err(Denial::ReactionNotTrusted)),
            ("by trusted reaction", reaction(Silence, LISTED), 0, &trusting, Ok(())),
            ("by trusted reaction, power", reaction(Silence, OTHER), 50, &trusting, Err(Denial::PowerNotTrusted)),
            ("all trusted", reaction(Silence, OTHER), 50, &both, Ok(())),
        ] {
            assert_eq!(judge(&asked, &member(power, true), actions), expected, "{what}");
        }
        assert_eq!(judge(&reaction(Silence, OTHER), &member(50, false), &plain), Ok(()), "in a plain room it does");
    }

    #[test]
    fn a_sender_may_always_undo() {
        let own = Asked { undoes_own: true, ..reaction(ActKind::Undo, OTHER) };
        let left = Member { is_joined: false, ..member(0, true) };
        assert_eq!(judge(&own, &left, &actions()), Ok(()));
        let others = reaction(ActKind::Undo, OTHER);
        assert_eq!(judge(&others, &member(49, true), &actions()), Err(Denial::NoRight { needs: Some(50), has: 49 }));
        assert_eq!(judge(&others, &member(50, true), &actions()), Ok(()));
    }
}

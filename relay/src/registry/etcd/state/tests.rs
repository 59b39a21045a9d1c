//! Agents are numbers here; the first digit is their key.

use super::{super::tests::host_key, *};
use converge_proto::rendezvous::{AgentInfo, Token};
use proptest::prelude::*;

const GRACE: Duration = Duration::from_mins(10);

fn number(number: u16) -> RelayNumber {
    RelayNumber::new(number).unwrap()
}

fn id(name: &str) -> Id {
    name.parse().unwrap()
}

fn agent(key: u8, wanted: Option<&str>, token: Option<&str>) -> VerifiedAgent {
    VerifiedAgent {
        wanted: wanted.map(id),
        host_key: host_key(key),
        info: AgentInfo::default(),
        token: token.map(|token| token.parse::<Token>().unwrap()),
        fell_back: None,
    }
}

fn held(relay: u16, run: Run, key: u8) -> Holding {
    Holding::Held(Box::new(Held {
        relay: number(relay),
        run,
        host_key: host_key(key),
        secret: None,
        claims: None,
    }))
}

fn entry(run: Run) -> RelayEntry {
    RelayEntry { run, address: "relay:4434".to_owned(), url: None, version: "1".to_owned(), draining: false }
}

/// Relay 1 of two, with leases that are valid.
struct Setup {
    state: State<u32>,
    run: Run,
    other: Run,
    now: Instant,
}

fn setup() -> Setup {
    let (run, other, now) = (Run::new(), Run::new(), Instant::now());
    let mut state = State::new(number(1), run, GRACE);
    state.relay(number(1), Some(entry(run)));
    state.relay(number(2), Some(entry(other)));
    state.set_valid_until(Some(now + GRACE));
    Setup { state, run, other, now }
}

impl Setup {
    fn plan(&self, agent: &VerifiedAgent) -> Plan {
        self.state.plan(agent, self.now, || id("made-up")).unwrap()
    }

    /// An agent of this key is here by a write of this revision, of which etcd has told.
    fn has(&mut self, name: &str, agent: u32, revision: Revision) {
        let key = u8::try_from(agent / 10).unwrap();
        let link = LinkNumber(agent.into());
        let taken = self.state.take(&id(name), (link, agent), &host_key(key), Some((revision, None)));
        assert_eq!(taken, Ok(None));
        assert_eq!(self.put(name, held(1, self.run, key), revision), []);
    }

    fn put(&mut self, name: &str, holding: Holding, revision: Revision) -> Vec<Effect<u32>> {
        self.state.put(id(name), holding, revision, self.now)
    }

    fn find(&self, name: &str) -> Option<Whereabouts<u32>> {
        self.state.find(&id(name), self.now)
    }
}

#[test]
fn free_ids_are_written_if_they_are_still_free() {
    let setup = setup();
    let plan = setup.plan(&agent(1, Some("build"), None));
    assert_eq!(plan, Plan { id: id("build"), reassigned: None, step: Step::Write(0), secret: None });
    assert_eq!(setup.plan(&agent(1, None, None)).id, id("made-up"));
}

#[test]
fn same_key_takes_over_from_another_relay_on_condition_that_nothing_changed() {
    let mut setup = setup();
    setup.put("build", held(2, setup.other, 1), 7);
    let plan = setup.plan(&agent(1, Some("build"), None));
    assert_eq!((plan.id, plan.step), (id("build"), Step::Write(7)));
}

#[test]
fn another_key_gets_another_id() {
    let mut setup = setup();
    setup.put("build", held(2, setup.other, 1), 7);
    let plan = setup.plan(&agent(2, Some("build"), None));
    assert_eq!((plan.id, plan.step), (id("made-up"), Step::Write(0)));
    assert_eq!(plan.reassigned, Some(Reassigned::HeldByAnotherKey));
    assert_eq!(setup.state.left_behind(&id("build")), None);
    // Also while its agent is away, here or with a relay that is gone.
    setup.state.relay(number(2), None);
    assert_eq!((setup.find("build"), setup.state.left_behind(&id("build"))), (None, Some(number(2))));
    assert_eq!(setup.plan(&agent(2, Some("build"), None)).id, id("made-up"));
}

#[test]
fn agent_that_comes_back_to_its_relay_writes_nothing() {
    let mut setup = setup();
    setup.has("build", 11, 5);
    setup.state.lose(&id("build"), LinkNumber(11), setup.now);
    assert_eq!(setup.find("build"), None);
    let plan = setup.plan(&agent(1, Some("build"), None));
    assert_eq!(plan.step, Step::Take);
    assert_eq!(setup.state.take(&id("build"), (LinkNumber(12), 12), &host_key(1), None), Ok(None));
    assert_eq!(setup.find("build"), Some(Whereabouts::Here(12)));
    // On a second link the first is a leftover, whose end then counts no more.
    assert_eq!(setup.state.take(&id("build"), (LinkNumber(13), 13), &host_key(1), None), Ok(Some(12)));
    setup.state.lose(&id("build"), LinkNumber(12), setup.now);
    assert_eq!(setup.find("build"), Some(Whereabouts::Here(13)));
}

#[test]
fn agent_that_has_gone_to_another_relay_leaves_a_leftover() {
    let mut setup = setup();
    setup.has("build", 11, 5);
    let effects = setup.put("build", held(2, setup.other, 1), 9);
    assert_eq!(effects, [Effect::Replaced(11), Effect::Appeared]);
    assert_eq!(setup.find("build"), Some(Whereabouts::At(number(2), 9)));
    // What comes late changes nothing.
    assert_eq!(setup.put("build", held(1, setup.run, 1), 5), []);
    assert_eq!(setup.state.deleted(&id("build"), 8), []);
    assert_eq!(setup.find("build"), Some(Whereabouts::At(number(2), 9)));
}

#[test]
fn who_was_overtaken_before_it_heard_of_its_success_has_no_id() {
    let mut setup = setup();
    // The write of revision 5 has succeeded, but the news of 6 comes first.
    setup.put("build", held(2, setup.other, 1), 6);
    let taken = setup.state.take(&id("build"), (LinkNumber(11), 11), &host_key(1), Some((5, None)));
    assert_eq!(taken, Err(11));
    assert_eq!(setup.find("build"), Some(Whereabouts::At(number(2), 6)));
}

#[test]
fn what_etcd_forgets_is_claimed_again_but_not_what_was_given_up() {
    let mut setup = setup();
    setup.has("kept", 11, 5);
    setup.has("given-up", 21, 6);
    assert_eq!(setup.state.give_up(&id("given-up"), LinkNumber(21)), Some(6));
    assert_eq!(setup.state.deleted(&id("kept"), 7), [Effect::Claim(id("kept"))]);
    assert_eq!(setup.state.deleted(&id("given-up"), 8), []);
    assert_eq!(setup.state.written_again(&id("kept")), Some(held(1, setup.run, 1)));
}

#[test]
fn news_of_a_write_that_was_given_up_meanwhile_changes_nothing() {
    let mut setup = setup();
    let link = LinkNumber(11);
    setup.state.take(&id("build"), (link, 11), &host_key(1), Some((5, None))).unwrap();
    assert_eq!(setup.state.give_up(&id("build"), link), Some(5));
    setup.put("build", held(1, setup.run, 1), 5);
    assert_eq!(setup.state.held(), 0);
    assert_eq!(setup.state.deleted(&id("build"), 6), []);
    assert_eq!(setup.plan(&agent(2, Some("build"), None)).step, Step::Write(0));
}

#[test]
fn write_that_was_not_seen_to_succeed_is_the_same_keys_for_a_while() {
    let mut setup = setup();
    setup.put("build", held(1, setup.run, 1), 5);
    assert_eq!(setup.find("build"), None);
    assert_eq!(setup.plan(&agent(1, Some("build"), None)).step, Step::Take);
    assert_eq!(setup.state.expired(setup.now), []);
    assert_eq!(setup.state.expired(setup.now + GRACE), [(id("build"), 5)]);
}

#[test]
fn lost_agent_keeps_its_id_for_the_grace_time() {
    let mut setup = setup();
    setup.has("build", 11, 5);
    setup.state.lose(&id("build"), LinkNumber(11), setup.now);
    assert_eq!(setup.plan(&agent(2, Some("build"), None)).id, id("made-up"));
    let end = setup.now + GRACE;
    assert_eq!(setup.state.expired(end.checked_sub(Duration::from_millis(1)).unwrap()), []);
    assert_eq!(setup.state.expired(end), [(id("build"), 5)]);
    assert_eq!(setup.state.held(), 0);
}

#[test]
fn nothing_here_is_found_when_etcd_may_have_given_it_away() {
    let mut setup = setup();
    setup.has("build", 11, 5);
    assert_eq!(setup.find("build"), Some(Whereabouts::Here(11)));
    setup.state.set_valid_until(Some(setup.now));
    assert_eq!(setup.find("build"), None);
}

#[test]
fn lost_data_count_on_for_a_while() {
    let mut setup = setup();
    setup.has("own", 11, 500);
    setup.put("others", held(2, setup.other, 2), 501);
    let until = setup.now + Duration::from_secs(30);
    let effects = setup.state.replace(Vec::new(), 3, Some(until), setup.now);
    assert_eq!(effects, [Effect::Claim(id("own"))]);
    // Another key does not get an ID that its relay has not yet written again.
    assert_eq!(setup.plan(&agent(3, Some("others"), None)).id, id("made-up"));
    assert_eq!(setup.plan(&agent(2, Some("others"), None)).step, Step::Write(0));
    // It is written again, with a revision that is smaller than the one from before.
    assert_eq!(setup.put("own", held(1, setup.run, 1), 4), []);
    assert_eq!(setup.find("own"), Some(Whereabouts::Here(11)));
    setup.now = until;
    assert_eq!(setup.plan(&agent(3, Some("others"), None)).id, id("others"));
}

#[test]
fn who_was_quicker_after_a_loss_has_the_id() {
    let mut setup = setup();
    setup.has("own", 11, 500);
    let all = vec![(id("own"), held(2, setup.other, 2), 2)];
    let effects = setup.state.replace(all, 3, Some(setup.now + GRACE), setup.now);
    assert_eq!(effects, [Effect::Replaced(11), Effect::Appeared]);
    assert_eq!(setup.find("own"), Some(Whereabouts::At(number(2), 2)));
}

#[test]
fn list_tells_what_was_missed() {
    let mut setup = setup();
    setup.has("own", 11, 5);
    setup.has("newer", 21, 12);
    setup.put("gone", held(2, setup.other, 2), 6);
    let all = vec![(id("new"), held(2, setup.other, 3), 8)];
    let effects = setup.state.replace(all, 10, None, setup.now);
    // What was written after the list was made is not missing.
    assert_eq!(effects, [Effect::Claim(id("own")), Effect::Appeared]);
    assert_eq!(setup.find("gone"), None);
    assert_eq!(setup.find("new"), Some(Whereabouts::At(number(2), 8)));
}

#[test]
fn relay_that_has_started_again_has_nothing_from_before() {
    let mut setup = setup();
    setup.put("build", held(2, setup.other, 1), 5);
    setup.state.relay(number(2), Some(entry(Run::new())));
    assert_eq!(setup.find("build"), None);
    // Nor has this one.
    setup.put("own", held(1, Run::new(), 1), 6);
    assert_eq!(setup.find("own"), None);
    assert_eq!(setup.plan(&agent(1, Some("own"), None)).step, Step::Write(6));
}

#[test]
fn promised_id_is_that_of_the_first_who_brings_the_token() {
    let mut setup = setup();
    let secret = SecretHash::of(&"cvg_secret".parse().unwrap());
    setup.put("promised", Holding::Promised { secret, until: 2_000_000_000 }, 5);
    assert_eq!(setup.plan(&agent(1, Some("promised"), None)).reassigned, Some(Reassigned::Reserved));
    let plan = setup.plan(&agent(1, Some("other"), Some("cvg_secret")));
    assert_eq!((&plan.id, plan.reassigned), (&id("promised"), Some(Reassigned::ByToken)));
    assert_eq!((plan.step, plan.secret), (Step::Write(5), Some(secret)));
    assert_eq!(setup.state.promise(&id("promised")), Some(5));
    // Once it has come the token is its alone, at whichever relay.
    let Holding::Held(came) = held(2, setup.other, 1) else { panic!() };
    setup.put("promised", Holding::Held(Box::new(Held { secret: Some(secret), ..*came })), 6);
    assert_eq!(setup.state.reserved_for(&agent(1, None, Some("cvg_secret"))), Some(id("promised")));
    assert_eq!(setup.state.reserved_for(&agent(2, None, Some("cvg_secret"))), None);
    assert_eq!(setup.state.promise(&id("promised")), None);
}

/// What happens to one ID at three relays, each of which has heard of etcd's history up to a point of its own.
#[derive(Clone, Debug)]
enum Event {
    /// An agent of this key comes to this relay.
    Claim(u16, u8),
    /// The relay hears of this many changes.
    Hear(u16, usize),
    /// Its agent goes, with a word or without.
    End(u16, bool),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        (1_u16..4, 1_u8..3).prop_map(|(relay, key)| Event::Claim(relay, key)),
        (1_u16..4, 1_usize..4).prop_map(|(relay, changes)| Event::Hear(relay, changes)),
        (1_u16..4, any::<bool>()).prop_map(|(relay, goodbye)| Event::End(relay, goodbye)),
    ];
    proptest::collection::vec(event, 1..60)
}

/// A relay, and how much of the history it has heard.
struct Simulated {
    state: State<u32>,
    run: Run,
    heard: usize,
}

proptest! {
    // A found case becomes a test of its own, not a file of seeds.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_key_takes_an_id_from_under_another(events in events()) {
        let (now, build) = (Instant::now(), id("build"));
        let mut relays: Vec<_> = (1..4).map(|relay| {
            let run = Run::new();
            let mut state = State::new(number(relay), run, GRACE);
            state.set_valid_until(Some(now + GRACE));
            Simulated { state, run, heard: 0 }
        }).collect();
        // etcd: each change has the next revision.
        let mut history: Vec<Option<Holding>> = vec![None];
        let mut next_link = 0;
        for event in events {
            match event {
                Event::Claim(relay, key) => {
                    let Simulated { state, run, .. } = &mut relays[usize::from(relay) - 1];
                    let plan = state.plan(&agent(key, Some("build"), None), now, || id("made-up")).unwrap();
                    next_link += 1;
                    let newcomer = (LinkNumber(next_link), u32::from(key));
                    if plan.id != build {
                        continue;
                    }
                    let written = match plan.step {
                        Step::Take => None,
                        Step::Write(since) => {
                            let exists = history.last().unwrap().is_some();
                            let last = if exists { history.len() - 1 } else { 0 };
                            if usize::try_from(since).unwrap() != last {
                                continue;
                            }
                            history.push(Some(held(relay, *run, key)));
                            Some((Revision::try_from(history.len() - 1).unwrap(), None))
                        }
                    };
                    let _ = state.take(&build, newcomer, &host_key(key), written);
                }
                Event::Hear(relay, changes) => {
                    let Simulated { state, heard, .. } = &mut relays[usize::from(relay) - 1];
                    for _ in 0..changes {
                        let Some(change) = history.get(*heard + 1) else { break };
                        *heard += 1;
                        let revision = Revision::try_from(*heard).unwrap();
                        match change {
                            Some(holding) => drop(state.put(build.clone(), holding.clone(), revision, now)),
                            None => drop(state.deleted(&build, revision)),
                        }
                    }
                }
                Event::End(relay, goodbye) => {
                    let Simulated { state, .. } = &mut relays[usize::from(relay) - 1];
                    let Some(Holder::Link(link, _)) = state.own.get(&build).map(|own| &own.holder) else { continue };
                    let link = *link;
                    if goodbye {
                        let since = state.give_up(&build, link);
                        if history.last().unwrap().is_some() && since == Revision::try_from(history.len() - 1).ok() {
                            history.push(None);
                        }
                    } else {
                        state.lose(&build, link, now);
                    }
                }
            }
            for relay in &relays {
                let Some(own) = relay.state.own.get(&build) else { continue };
                // Whatever it has not yet heard of: nobody else's key has taken the ID from under it.
                let next = history.get(usize::try_from(own.revision).unwrap() + 1);
                let is_safe = match next {
                    None => true,
                    Some(Some(Holding::Held(held))) => held.host_key == own.host_key,
                    Some(_) => false,
                };
                prop_assert!(is_safe, "{next:?} came after {own:?}");
                if relay.heard + 1 == history.len() {
                    prop_assert!(next.is_none(), "it has heard all, and not that {next:?}");
                }
            }
        }
    }
}

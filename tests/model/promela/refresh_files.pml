/* The refresh protocol on files: programs that share auth.json, its lock and its claims. docs/model-checker.md
 * explains it. The tables are those of diagrams/tables.pml; the steps are those of engine/flows/refresh.py.
 */

#include "tables.pml"
#include "trace.pml"

#ifdef TRACE
#define PROGRAMS 10
#define TOKENS 40
#define LOGINS 30
#else
#ifndef PROGRAMS
#define PROGRAMS 2
#endif
#ifndef TOKENS
#define TOKENS 4
#endif
#define LOGINS 3
#endif
#define SLOTS (PROGRAMS + 1)

#define NONE 0

/* The safeguards. Each can be removed, and then Spin must find a history that breaks a promise. */
#define NO_LOCK 1
#define NO_RELOAD 2
#define NO_SHIELD 3
#define RENAME_BEFORE_SYNC 4
#define NO_FILE_SYNC 5
#define NO_FOLDER_SYNC 6
#define WRITE_IN_PLACE 7
#define NO_GENERATION_CHECK 8
#define NO_SESSION_CHECK 9
#define CANCELLED_WHILE_SPENT 10
#define USED_BEFORE_STORED 11
#define DEAD_SENT_AGAIN 12
#define NO_CLAIM 13
#define NO_LOOK_AT_CLAIM 14
#define DOUBT_SENT_AT_ONCE 15
#define LOST_REPEATED 16
#define LOCK_OUTLIVES_PROCESS 17
#define NO_LOCK_TIMEOUT 18
#define CLAIMS_DIE_WITH_PROCESS 19

byte removed;
#define WITHOUT(safeguard) (removed == safeguard)

/* What may still go wrong. Along a trace, anything may. */
byte crashes, power_cuts, losses, faults, people, parents, cancels, partials, stalls, callers;
#ifdef TRACE
#define MAY(mishap) true
#define USE(mishap) skip
#define CAN_GIVE true
#define IS_BUSY(t) false
#else
#define MAY(mishap) (mishap > 0)
#define USE(mishap) mishap--
#define CAN_GIVE (issued < TOKENS - 1)  /* or the issuer is busy: a run has few tokens, so that it ends */
#define IS_BUSY(t) (!CAN_GIVE && !is_spent[t] && !is_revoked[t])
#endif

/* The issuer. Tokens are numbered as it gives them. */
byte issued;
byte account[TOKENS], login[TOKENS];
byte logins;
byte spender[TOKENS];        /* who spent it */
byte parent_of[TOKENS];
bool is_spent[TOKENS], is_revoked[TOKENS];
bool is_underway[TOKENS];    /* spent, and the answer is not stored yet */
bool is_lost[TOKENS];        /* spent, and the answer is lost in a way that nobody can help */
byte age[TOKENS];            /* of the access token beside it: 0 good, 1 soon to expire, 2 expired or refused */
byte late[TOKENS];           /* requests that may still arrive, and whose sender has given up or is gone */
bool has_ended[LOGINS];      /* signed out or replaced */

/* The store. */
byte stored;                 /* what a reader finds */
byte durable;                /* what a power cut keeps */
bool is_torn;                /* what a reader finds is not whole */
bool may_tear;               /* its content is not synced */
bool was_visible[TOKENS], was_durable[TOKENS];
mtype:refresh_claim claim[TOKENS] = refresh_claim_initial;
byte holder;                 /* of the lock */

/* The programs. */
mtype:auth_state session[SLOTS] = auth_state_initial;
byte used[SLOTS];            /* the token of the session */
byte seen[SLOTS];            /* what it read last */
bool is_fresh[SLOTS];        /* it was read under the lock */
byte pending[SLOTS];         /* new tokens that are not stored yet */
byte pending_for[SLOTS];     /* the token that was spent for them */
byte request[SLOTS];         /* the token in its request */
bool has_arrived[SLOTS];
byte answer[SLOTS];          /* the new token, if the issuer gave one */
bool is_refused[SLOTS];
byte filled[SLOTS];          /* the token in its new file */
bool is_doubtful[SLOTS];     /* it sends a token that was in doubt */
byte repeats[SLOTS];         /* sends since an answer was lost */
bool is_killed[SLOTS], is_alive[SLOTS], is_waiting[SLOTS];
byte asked_with[SLOTS];      /* the token of a caller's request to the backend */
byte left_alone[SLOTS];      /* a token in doubt: it is not asked for again while its access token is usable */
bool fired, is_ready;
hidden byte each;

typedef Memory { bool spent[TOKENS]; bool dead[TOKENS] };
Memory knows[SLOTS];

#define me (_pid + 1)  /* a program's number: Spin starts them first */
#define IS_IN_DOUBT(t) (claim[t] == refresh_claim_claimed || claim[t] == refresh_claim_doubtful)
#define IS_OUTDATED(t) (knows[me].spent[t] || claim[t] == refresh_claim_spent)
/* Along a trace, each SEND says whether the access token is usable and whether somebody needs another one. Before it,
 * both are possible.
 */
#ifdef TRACE
#define FACTS next_b
#define IS_NEEDED(t) ((next_b & 2) == 0)
#define IS_USABLE(t) ((next_b & 1) == 1)
#define MAY_BE_USABLE(t) true
#define MAY_BE_UNUSABLE(t) true
#define MAY_STILL_ARRIVE(t) false
#else
#define FACTS ((IS_USABLE(current) -> 1 : 0) + (IS_NEEDED(current) -> 0 : 2))
#define IS_NEEDED(t) (age[t] >= 1)
#define IS_USABLE(t) (age[t] < 2)
#define MAY_BE_USABLE(t) IS_USABLE(t)
#define MAY_BE_UNUSABLE(t) (!IS_USABLE(t))
#define MAY_STILL_ARRIVE(t) (late[t] > 0)
#endif
#define IS_SAME_ACCOUNT(t, u) (account[t] == account[u])
#define KEEPS_WHOLE (!WITHOUT(RENAME_BEFORE_SYNC) && !WITHOUT(NO_FILE_SYNC) && !WITHOUT(WRITE_IN_PLACE))
#define IS_SAME_SESSION(t) (session[me] == auth_state_chatgpt && used[me] == t)
#define CHECKS_CLAIM (!WITHOUT(NO_LOOK_AT_CLAIM) && !WITHOUT(DEAD_SENT_AGAIN))
#define IS_CANCELLED_ANYWHERE (WITHOUT(NO_SHIELD) || WITHOUT(CANCELLED_WHILE_SPENT))

#define CODE_OF(c) (c == refresh_claim_free -> IS_FREE : (c == refresh_claim_claimed -> IS_CLAIMED : \
    (c == refresh_claim_doubtful -> IS_DOUBTFUL : (c == refresh_claim_spent -> IS_SPENT : IS_DEAD))))

/* The session moves by its table. */
inline fire_refreshed(t) {
    TELL(FIRE, me, t, REFRESHED);
    PROMISE(was_visible[t] && !is_torn);
    PROMISE(parent_of[t] == NONE || spender[parent_of[t]] != me || was_durable[t]);
    fire_auth_state_tokens_refreshed(session[me], true, fired);
    PROMISE(fired);
    PROMISE(session[me] == auth_state_chatgpt);
    used[me] = t;
    SEEN(FIRE, me, t, REFRESHED)
}

inline forget(p) {
    session[p] = auth_state_initial;
    used[p] = NONE; seen[p] = NONE; is_fresh[p] = false;
    pending[p] = NONE; pending_for[p] = NONE;
    request[p] = NONE; has_arrived[p] = false; answer[p] = NONE; is_refused[p] = false;
    filled[p] = NONE; is_doubtful[p] = false; repeats[p] = 0;
    is_waiting[p] = false; asked_with[p] = NONE; left_alone[p] = NONE;
    for (each : 1 .. TOKENS - 1) { knows[p].spent[each] = false; knows[p].dead[each] = false }
}

/* A process is gone: the operating system gives its lock back, and what only its memory held is lost. */
inline take_external(p) {
    TELL(FIRE, p, NONE, EXTERNAL);
    fire_auth_state_use_external_tokens(session[p], true, fired); PROMISE(fired);
    used[p] = NONE;
    SEEN(FIRE, p, NONE, EXTERNAL)
}

inline die(p) {
    TELL(DIE, p, 0, 0);
    if
    :: request[p] != NONE && !has_arrived[p] -> late[request[p]]++
    :: else
    fi;
    for (each : 1 .. TOKENS - 1) {
        if
        :: is_underway[each] && spender[each] == p -> is_underway[each] = false; is_lost[each] = true
        :: WITHOUT(CLAIMS_DIE_WITH_PROCESS) && claim[each] == refresh_claim_claimed -> claim[each] = refresh_claim_free
        :: else
        fi
    }
    if
    :: holder == p && !WITHOUT(LOCK_OUTLIVES_PROCESS) -> holder = NONE
    :: else
    fi;
    forget(p);
    is_killed[p] = is_alive[p];
    is_alive[p] = false
}

/* The issuer gives a token: for another one, or to somebody who signs in. */
inline give(t, of_account, of_login) {
    issued++;
    account[issued] = of_account; login[issued] = of_login; parent_of[issued] = t
}

inline sign_in(of_account) {
    logins++;
    give(NONE, of_account, logins)
}

/* 1. Take the lock. `is_done` tells whether it was taken. */
inline lock() {
    if
    :: (holder == NONE || WITHOUT(NO_LOCK)) && IS(LOCK, me, 0, 0) -> TELL(LOCK, me, 0, 0);
       holder = me; is_fresh[me] = false; is_done = true;
       SEEN(LOCK, me, 0, 0)
    :: holder != NONE && holder != me && !WITHOUT(NO_LOCK_TIMEOUT) -> is_done = false  /* StoreBusy */
    :: MAY(cancels) -> USE(cancels); is_done = false
    fi
}

inline unlock() {
    IS(UNLOCK, me, 0, 0); TELL(UNLOCK, me, 0, 0);
    if
    :: holder == me -> holder = NONE
    :: else
    fi;
    PROMISE(stored == NONE || !is_underway[stored] || pending[me] != NONE);
    SEEN(UNLOCK, me, 0, 0)
}

/* 7. Fill a new file and sync it, give it the name, sync the folder. Any of it may fail. `is_done` tells. */
inline write_store(t) {
    atomic {
        is_done = true;
        if
        :: KEEPS_WHOLE && t != NONE && IS(FILLED, me, t, 0) -> TELL(FILLED, me, t, 0); filled[me] = t; SEEN(FILLED, me, t, 0)
        :: !KEEPS_WHOLE && t != NONE -> is_torn = WITHOUT(WRITE_IN_PLACE)
        :: t == NONE
        :: MAY(faults) -> USE(faults); is_done = false
        fi
    };
    atomic {
        if
        :: is_done && IS(STORE, me, t, 0) -> TELL(STORE, me, t, 0);
           PROMISE(t == NONE || !has_ended[login[t]]);
           PROMISE(t == NONE || filled[me] == t || !KEEPS_WHOLE);
           if
           :: stored != NONE && (t == NONE || login[t] != login[stored]) -> has_ended[login[stored]] = true
           :: else
           fi;
           may_tear = t != NONE && filled[me] != t;
           stored = t; is_torn = false; filled[me] = NONE;
           was_visible[t] = true;
           is_underway[parent_of[t]] = false;
           SEEN(STORE, me, t, 0)
        :: is_done && MAY(faults) -> USE(faults); is_done = false
        :: !is_done
        fi
    };
    atomic {
        if
        :: is_done && !WITHOUT(NO_FOLDER_SYNC) && IS(SYNC, me, 0, 0) -> TELL(SYNC, me, 0, 0);
           durable = stored; was_durable[stored] = true;
           may_tear = may_tear && WITHOUT(NO_FILE_SYNC);
           SEEN(SYNC, me, 0, 0)
        :: is_done && WITHOUT(NO_FOLDER_SYNC)
        :: is_done && MAY(faults) -> USE(faults); is_done = false
        :: !is_done
        fi
    }
}

/* Nothing is heard of a request any more. It may have been lost on its way, or arrive still. */
inline lose_request() {
    if
    :: answer[me] != NONE -> is_underway[current] = false; is_lost[current] = true
    :: !has_arrived[me] -> late[current]++
    :: !has_arrived[me]
    :: has_arrived[me] && answer[me] == NONE
    fi;
    request[me] = NONE; answer[me] = NONE
}

/* The disk takes no new tokens. They wait in memory. */
inline lose_pending() {
    if
    :: is_underway[pending_for[me]] -> is_underway[pending_for[me]] = false; is_lost[pending_for[me]] = true
    :: else
    fi
}

/* engine/flows/refresh.py, steps 1 to 7, and what the session makes of it. */
inline refresh() {
    is_waiting[me] = true; current = used[me];

    /* Steps 1 to 4 are one step here: under the lock, nobody else changes what they read. */
    atomic {
        lock();
        if
        :: is_done
        :: else -> goto failed
        fi;

        /* 2. Reload under the lock. */
#ifdef TRACE
        is_fresh[me];
#else
        seen[me] = stored; PROMISE(!is_torn);
#endif
        if
        :: WITHOUT(NO_RELOAD)
        :: !WITHOUT(NO_RELOAD) && (seen[me] == NONE || !IS_SAME_ACCOUNT(seen[me], current)) ->
           pending[me] = NONE; goto rejected
        :: !WITHOUT(NO_RELOAD) && seen[me] != NONE && IS_SAME_ACCOUNT(seen[me], current) && seen[me] != current &&
           seen[me] != pending[me] && !IS_OUTDATED(seen[me]) ->
           pending[me] = NONE; result = seen[me]; unlock(); goto install
        :: !WITHOUT(NO_RELOAD) && seen[me] != NONE && IS_SAME_ACCOUNT(seen[me], current) &&
           (seen[me] == current || seen[me] == pending[me] || IS_OUTDATED(seen[me]))
        :: MAY(faults) -> USE(faults); goto unlocked
        fi;
        if
        :: pending[me] != NONE -> goto store
        :: else
        fi;

        /* 3. Look at the claim. */
        if
        :: CHECKS_CLAIM && (claim[current] == refresh_claim_dead || claim[current] == refresh_claim_spent ||
           knows[me].dead[current] || knows[me].spent[current]) -> goto rejected
        :: CHECKS_CLAIM && !WITHOUT(DOUBT_SENT_AT_ONCE) && IS_IN_DOUBT(current) && MAY_BE_USABLE(current) ->
           left_alone[me] = current; goto unlocked
        :: !CHECKS_CLAIM || (!knows[me].dead[current] && !knows[me].spent[current] &&
           (claim[current] == refresh_claim_free ||
            (IS_IN_DOUBT(current) && (WITHOUT(DOUBT_SENT_AT_ONCE) || MAY_BE_UNUSABLE(current)))))
        fi;

        /* 4. Record the claim. */
        is_doubtful[me] = IS_IN_DOUBT(current); is_lost_here = false; repeats[me] = 0;
        if
        :: WITHOUT(DEAD_SENT_AGAIN) -> claim[current] = refresh_claim_free
        :: else
        fi;
        if
        :: WITHOUT(NO_CLAIM)
        :: !WITHOUT(NO_CLAIM) && IS(CLAIM, me, current, IS_CLAIMED) -> TELL(CLAIM, me, current, IS_CLAIMED);
           fire_refresh_claim_claim(claim[current], fired); PROMISE(fired);
           SEEN(CLAIM, me, current, IS_CLAIMED)
        :: MAY(faults) -> USE(faults); goto unlocked
        fi
    };

    /* 5. Ask the issuer. */
    do
    :: atomic {
           IS(SEND, me, current, FACTS) -> TELL(SEND, me, current, FACTS);
           if
           :: is_lost_here -> repeats[me]++
           :: else
           fi;
           PROMISE(claim[current] == refresh_claim_claimed);
           PROMISE(IS_NEEDED(current));
           PROMISE(!IS_USABLE(current) || !is_doubtful[me]);
           PROMISE(!IS_USABLE(current) || is_lost_here || !(is_lost[current] || MAY_STILL_ARRIVE(current)));
           PROMISE(!knows[me].dead[current]);
           PROMISE(repeats[me] <= 1);
           request[me] = current; has_arrived[me] = false; answer[me] = NONE; is_refused[me] = false;
           SEEN(SEND, me, current, FACTS)
       };
       if
       :: atomic {
              answer[me] != NONE && IS(HEAR, me, current, ANSWER) -> TELL(HEAR, me, current, ANSWER);
              result = answer[me]; request[me] = NONE;
              knows[me].spent[current] = true;
              is_partial = false; pending[me] = result; pending_for[me] = current;
              SEEN(HEAR, me, current, ANSWER);
              goto store
          }
       :: atomic {
              answer[me] != NONE && MAY(partials) && IS(HEAR, me, current, PARTIAL) -> TELL(HEAR, me, current, PARTIAL); USE(partials);
              result = answer[me]; request[me] = NONE; age[result] = age[current];
              knows[me].spent[current] = true;
              is_partial = true; pending[me] = result; pending_for[me] = current;
              SEEN(HEAR, me, current, PARTIAL);
              goto store
          }
       :: atomic {
              is_refused[me] && IS(HEAR, me, current, REFUSED) -> TELL(HEAR, me, current, REFUSED);
              request[me] = NONE; knows[me].dead[current] = true;
              SEEN(HEAR, me, current, REFUSED);
              if
              :: IS(CLAIM, me, current, IS_DEAD) -> TELL(CLAIM, me, current, IS_DEAD);
                 fire_refresh_claim_refuse(claim[current], fired); PROMISE(fired);
                 SEEN(CLAIM, me, current, IS_DEAD)
              :: MAY(faults) -> USE(faults)
              fi;
              goto rejected
          }
       :: atomic {
              MAY(losses) && IS(HEAR, me, current, UNKNOWN) -> TELL(HEAR, me, current, UNKNOWN); USE(losses);
              lose_request();
              SEEN(HEAR, me, current, UNKNOWN);
              if
              :: is_lost_here && !WITHOUT(LOST_REPEATED) -> goto unanswered
              :: !is_lost_here || WITHOUT(LOST_REPEATED) -> is_lost_here = true  /* once more, at once */
              :: MAY(cancels) -> USE(cancels); is_lost_here = true; goto unanswered
              fi
          }
       :: atomic {
              !has_arrived[me] && (MAY(losses) || IS_BUSY(current)) && IS(HEAR, me, current, BUSY) -> TELL(HEAR, me, current, BUSY);
              if
              :: !IS_BUSY(current) -> USE(losses)
              :: else
              fi;
              request[me] = NONE;
              SEEN(HEAR, me, current, BUSY);
              if
              :: !IS_BUSY(current) && (!is_lost_here || WITHOUT(LOST_REPEATED))
              :: true -> goto unanswered
              fi
          }
       :: atomic { IS_CANCELLED_ANYWHERE && MAY(cancels) -> USE(cancels); request[me] = NONE; goto unanswered }
       fi
    :: atomic { MAY(cancels) -> USE(cancels) }; goto unanswered
#ifndef TRACE
    :: atomic { me == 2 && MAY(stalls) -> USE(stalls) };
end_stalled:
       false
#endif
    od;

unanswered:
    atomic {
        if
        :: (is_lost_here || is_doubtful[me]) && claim[current] == refresh_claim_claimed && IS(CLAIM, me, current, IS_DOUBTFUL) -> TELL(CLAIM, me, current, IS_DOUBTFUL);
           fire_refresh_claim_lose(claim[current], fired); PROMISE(fired);
           SEEN(CLAIM, me, current, IS_DOUBTFUL)
        :: !(is_lost_here || is_doubtful[me]) && claim[current] == refresh_claim_claimed && IS(CLAIM, me, current, IS_FREE) -> TELL(CLAIM, me, current, IS_FREE);
           fire_refresh_claim_withdraw(claim[current], fired); PROMISE(fired);
           SEEN(CLAIM, me, current, IS_FREE)
        :: MAY(faults) -> USE(faults)
        :: WITHOUT(NO_CLAIM)
        fi;
        goto unlocked
    };

store:
    result = pending[me];
    if
    :: WITHOUT(USED_BEFORE_STORED) -> pending[me] = NONE; unlock(); goto install
    :: else
    fi;
    write_store(result);
    atomic {
        if
        :: is_done
        :: !is_done && MAY(faults) -> goto store  /* another try */
        :: !is_done -> lose_pending(); goto unlocked
        fi;
        if
        :: claim[pending_for[me]] == refresh_claim_claimed && IS(CLAIM, me, pending_for[me], IS_SPENT) -> TELL(CLAIM, me, pending_for[me], IS_SPENT);
           fire_refresh_claim_settle(claim[pending_for[me]], fired); PROMISE(fired);
           SEEN(CLAIM, me, pending_for[me], IS_SPENT)
        :: claim[pending_for[me]] != refresh_claim_claimed
        :: MAY(faults) -> USE(faults)
        fi;
        pending[me] = NONE; pending_for[me] = NONE;
        unlock();
        if
        :: is_partial -> goto failed
        :: else
        fi
    };

install:
    atomic {
        if
        :: (IS_SAME_SESSION(current) || WITHOUT(NO_SESSION_CHECK)) && IS(FIRE, me, result, REFRESHED) ->
           fire_refreshed(result)
        :: !IS_SAME_SESSION(current) && !WITHOUT(NO_SESSION_CHECK)
        fi;
        goto done
    };

rejected:
    atomic {
        PROMISE(is_lost[current] || stored == NONE || !IS_SAME_ACCOUNT(stored, current) || has_ended[login[current]]);
        unlock()
    };
    atomic {
        if
        :: IS_SAME_SESSION(current) && IS(FIRE, me, current, REJECTED) -> TELL(FIRE, me, current, REJECTED);
           fire_auth_state_refresh_rejected(session[me], fired); PROMISE(fired);
           SEEN(FIRE, me, current, REJECTED)
        :: !IS_SAME_SESSION(current)
        fi;
        goto done
    };

unlocked:
    atomic { unlock() };
failed:
done:
    atomic {
        is_waiting[me] = false; current = NONE; result = NONE; is_partial = false; is_lost_here = false;
        is_doubtful[me] = false; repeats[me] = 0; seen[me] = NONE; filled[me] = NONE
    }
}

/* Somebody signs in (`new` is the token) or out (it is NONE). */
inline change_login() {
    atomic {
        lock();
        if
        :: is_done
        :: else -> goto not_changed
        fi;
#ifdef TRACE
        if
        :: next_kind == FILLED && parent_of[next_a] == NONE && !was_visible[next_a] -> new = next_a
        :: next_kind != FILLED -> new = NONE
        fi
#endif
    };
    write_store(new);
    atomic {
        if
        :: is_done -> pending[me] = NONE; pending_for[me] = NONE
        :: else -> goto not_changed_but_locked
        fi;
        if
        :: new == NONE && IS(FIRE, me, NONE, LOGOUT) -> TELL(FIRE, me, NONE, LOGOUT);
           fire_auth_state_log_out(session[me], fired); PROMISE(fired);
           used[me] = NONE;
           SEEN(FIRE, me, NONE, LOGOUT)
        :: new != NONE && IS(FIRE, me, new, LOGIN) -> TELL(FIRE, me, new, LOGIN);
           fire_auth_state_complete_chatgpt_login(session[me], true, fired); PROMISE(fired);
           used[me] = new;
           SEEN(FIRE, me, new, LOGIN)
        fi
    };
not_changed_but_locked:
    atomic { unlock() };
not_changed:
    new = NONE; is_changing = false
}

inline live() {
    atomic { is_ready && !is_alive[me] && IS(START, me, 0, 0) -> TELL(START, me, 0, 0); is_alive[me] = true; SEEN(START, me, 0, 0) };
end_idle:
    do
    /* Look at the store: at the start, and after another process changed it. */
#ifdef TRACE
    :: atomic {
           next_kind == FIRE && next_process == me && next_b == LOGIN ->
           PROMISE(was_visible[next_a]);
           fire_auth_state_complete_chatgpt_login(session[me], true, fired); PROMISE(fired);
           used[me] = next_a;
           SEEN(FIRE, me, used[me], LOGIN)
       }
    :: atomic {
           next_kind == FIRE && next_process == me && next_b == LOGOUT ->
           fire_auth_state_log_out(session[me], fired); PROMISE(fired);
           used[me] = NONE;
           SEEN(FIRE, me, NONE, LOGOUT)
       }
    :: atomic {
           next_kind == FIRE && next_process == me && next_b == REFRESHED -> fire_refreshed(next_a)
       }
    :: session[me] == auth_state_chatgpt && next_kind == LOCK -> goto needs_tokens
    :: next_kind == LOCK -> change_login()
#else
    :: atomic {
           session[me] == auth_state_logged_out && stored != NONE -> TELL(FIRE, me, stored, LOGIN);
           PROMISE(!is_torn);
           fire_auth_state_complete_chatgpt_login(session[me], true, fired); PROMISE(fired);
           used[me] = stored;
           SEEN(FIRE, me, stored, LOGIN)
       }
    :: atomic {
           (session[me] == auth_state_chatgpt || session[me] == auth_state_refresh_dead) && used[me] != stored &&
           stored != NONE && IS_SAME_ACCOUNT(stored, used[me]) && !IS_OUTDATED(stored) && stored != pending[me] ->
           PROMISE(!is_torn);
           pending[me] = NONE;
           fire_refreshed(stored)
       }
    :: !callers && session[me] == auth_state_chatgpt && IS_NEEDED(used[me]) &&
       (left_alone[me] != used[me] || !IS_USABLE(used[me])) -> left_alone[me] = NONE; goto needs_tokens
    /* Callers: one sends a request with the token of the session; later it gets a 401, or the clock asks. */
    :: atomic { callers && session[me] == auth_state_chatgpt && asked_with[me] == NONE -> asked_with[me] = used[me] }
    :: atomic { session[me] != auth_state_chatgpt && asked_with[me] != NONE -> asked_with[me] = NONE }
    :: atomic {
           session[me] == auth_state_chatgpt && asked_with[me] != NONE && asked_with[me] != used[me] &&
           !WITHOUT(NO_GENERATION_CHECK) -> asked_with[me] = NONE
       }
    :: session[me] == auth_state_chatgpt && asked_with[me] != NONE && IS_NEEDED(asked_with[me]) &&
       (asked_with[me] == used[me] || WITHOUT(NO_GENERATION_CHECK)) -> asked_with[me] = NONE; goto needs_tokens
    :: WITHOUT(DEAD_SENT_AGAIN) && session[me] == auth_state_refresh_dead -> goto needs_tokens
    /* Somebody signs in, as the same account or another one, or out. */
    :: atomic { MAY(people) && issued < TOKENS - 1 && logins < LOGINS - 1 -> USE(people); sign_in(1); new = issued; is_changing = true }
    :: atomic { MAY(people) && issued < TOKENS - 1 && logins < LOGINS - 1 -> USE(people); sign_in(2); new = issued; is_changing = true }
    :: atomic { MAY(people) && stored != NONE -> USE(people); is_changing = true }
    :: is_changing -> change_login()
#endif
    od;

needs_tokens:
    refresh();
    goto end_idle
}

active [PROGRAMS] proctype Program() IN_TURN {
    byte current, result, new;
    bool is_lost_here, is_partial, is_changing, is_done;
    do
    :: { live() } unless { atomic { is_killed[me] -> is_killed[me] = false; current = NONE; result = NONE; new = NONE; is_lost_here = false; is_partial = false; is_changing = false; is_done = false } }
    od
}

/* The way to the issuer and back, for one program. */
proctype Network(byte program) {
end:
    do
    :: atomic {
           request[program] != NONE && !has_arrived[program] && CAN_GIVE &&
           !is_spent[request[program]] && !is_revoked[request[program]] && IS(ARRIVE, program, request[program], 1) -> TELL(ARRIVE, program, request[program], 1);
           has_arrived[program] = true;
           is_spent[request[program]] = true; is_underway[request[program]] = true;
           spender[request[program]] = program;
           give(request[program], account[request[program]], login[request[program]]);
           answer[program] = issued;
           SEEN(ARRIVE, program, request[program], 1)
       }
    :: atomic {
           request[program] != NONE && !has_arrived[program] &&
           (is_spent[request[program]] || is_revoked[request[program]]) && IS(ARRIVE, program, request[program], 0) -> TELL(ARRIVE, program, request[program], 0);
           PROMISE(is_lost[request[program]]);  /* or a token is sent twice, and nothing explains it */
           has_arrived[program] = true; is_refused[program] = true;
           SEEN(ARRIVE, program, request[program], 0)
       }
    od
}

/* A request arrives whose sender has given up or is gone. Nobody hears the answer. */
inline arrive_late(t) {
    if
    :: !is_spent[t] && !is_revoked[t] && CAN_GIVE && IS(ARRIVE, next_sender, t, 1) -> TELL(ARRIVE, next_sender, t, 1);
       is_spent[t] = true; is_lost[t] = true;
       give(t, account[t], login[t]);
       late[t]--;
       SEEN(ARRIVE, next_sender, t, 1)
    :: (is_spent[t] || is_revoked[t]) && IS(ARRIVE, next_sender, t, 0) -> TELL(ARRIVE, next_sender, t, 0);
       late[t]--;
       SEEN(ARRIVE, next_sender, t, 0)
    :: !CAN_GIVE -> late[t]--
    fi
}

/* After a power cut: the store holds an older token, and newer ones are lost. */
inline cut_power(kept) {
    TELL(POWER, 0, kept, 0);
    stored = kept; durable = kept;
    is_torn = may_tear && kept != NONE;
    may_tear = false;
    if
    :: kept != NONE && is_spent[kept] && !is_lost[kept] ->
       for (each : 1 .. TOKENS - 1) {
           PROMISE(!(parent_of[each] == kept && was_durable[each]))
       };
       is_lost[kept] = true
    :: else
    fi;
    has_ended[login[kept]] = false
}

#ifdef TRACE
active proctype World() {
    do
    :: atomic {
           next_kind == DIE ->
           for (each : 1 .. TOKENS - 1) {
               PROMISE(!(next_a == 1 && is_underway[each] && spender[each] == next_process))
           };
           die(next_process);
           SEEN(DIE, 0, 0, 0)
       }
    :: atomic {
           next_kind == BEGIN ->
           stored = next_a; durable = next_a; was_visible[next_a] = true; was_durable[next_a] = true;
           SEEN(BEGIN, 0, 0, 0)
       }
    :: atomic { next_kind == POWER && (next_a == stored || next_a == durable) -> cut_power(next_a); SEEN(POWER, 0, 0, 0) }
    :: atomic {
           next_kind == READ && next_a == stored && !is_torn ->
           seen[next_process] = stored; is_fresh[next_process] = true;
           SEEN(READ, 0, 0, 0)
       }
    :: atomic { next_kind == ISSUE -> sign_in(next_a); SEEN(ISSUE, 0, 0, 0) }
    :: atomic { next_kind == REVOKE && next_a != stored -> is_revoked[next_a] = true; SEEN(REVOKE, 0, 0, 0) }
    :: atomic {
           next_kind == FIRE && next_b == EXTERNAL ->
           take_external(next_process)
       }
    :: atomic { next_kind == ARRIVE && late[next_a] > 0 -> arrive_late(next_a) }
    od
}
#else
active proctype World() {
end:
    do
    /* Time passes. */
    :: atomic { is_ready && stored != NONE && issued < TOKENS - 1 && age[stored] < 2 -> age[stored]++ }
    /* A request arrives after all. */
    :: atomic { late[1] > 0 -> arrive_late(1) }
    :: atomic { late[2] > 0 -> arrive_late(2) }
    :: late[1] > 0 -> late[1]--
    :: late[2] > 0 -> late[2]--
    /* kill -9, or the power. */
    :: atomic { MAY(crashes) && is_alive[1] -> USE(crashes); die(1) }
    :: atomic { MAY(crashes) && is_alive[2] -> USE(crashes); die(2) }
    :: atomic { MAY(power_cuts) -> USE(power_cuts); die(1); die(2); cut_power(durable) }
    :: atomic { MAY(power_cuts) && stored != durable -> USE(power_cuts); die(1); die(2); cut_power(stored) }
    :: atomic { MAY(power_cuts) && may_tear -> USE(power_cuts); die(1); die(2); cut_power(stored) }
    /* A parent application passes tokens in. */
    :: atomic { MAY(parents) && is_alive[1] && session[1] != auth_state_external_tokens -> USE(parents); take_external(1) }
    :: atomic { MAY(parents) && is_alive[2] && session[2] != auth_state_external_tokens -> USE(parents); take_external(2) }
    /* The issuer forgets a token that was signed out or replaced. */
    :: atomic { has_ended[1] && !is_revoked[1] && stored != 1 -> is_revoked[1] = true }
    od
}
#endif

init {
    atomic {
        for (each : 1 .. PROGRAMS) { run Network(each) };
#ifdef TRACE
        c_code { read_traces(); };
        do
        :: c_expr { now.trace_number < number_of_traces - 1 } -> trace_number++
        :: break
        od;
        is_ready = true;
        SEEN(0, 0, 0, 0)
#else
        sign_in(1); stored = issued; durable = issued; was_visible[issued] = true; was_durable[issued] = true;
        c_code {
            now.removed = option("REMOVED");
            now.crashes = option("CRASHES"); now.power_cuts = option("POWER_CUTS"); now.losses = option("LOSSES");
            now.faults = option("FAULTS"); now.people = option("PEOPLE"); now.parents = option("PARENTS");
            now.cancels = option("CANCELS"); now.partials = option("PARTIALS"); now.stalls = option("STALLS");
            now.callers = option("CALLERS");
        };
        is_ready = true
#endif
    }
}

#ifdef LIVENESS
/* Every wait ends. A program that needs tokens gets them, or its login is dead: unless a program stands still for ever,
 * because it keeps the lock as long as it lives.
 */
ltl every_wait_ends { [] (is_waiting[1] -> <> !is_waiting[1]) }
ltl tokens_come { [] <> (!is_alive[1] || session[1] != auth_state_chatgpt || IS_USABLE(used[1])) }
#endif

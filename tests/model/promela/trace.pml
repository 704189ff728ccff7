/* How a model is run: freely, in which case it does all that it may, or along a trace of the simulation.
 *
 * IS(kind, process, a, b) is part of each guard of a step that can be seen from outside, TELL begins its effect, and SEEN
 * ends it. In a free run, IS is true and TELL prints. Along a trace, IS is true if this is the next event of the trace,
 * and SEEN goes on to the one after it. A trace is accepted if some run reaches its end. traces.py reads the kinds from here.
 */

#define START   1  /* a process begins to run */
#define DIE     2  /* it is gone. a: 1 if it ended in order and its grace did not run out */
#define POWER   3  /* the power failed, and the store holds token a since */
#define LOCK    4
#define UNLOCK  5
#define READ    6  /* it finds token a in the store */
#define CLAIM   7  /* the claim on token a becomes b */
#define SEND    8  /* token a goes to the issuer. b: 1 if the access token beside it is usable, 2 if nobody needs another */
#define ARRIVE  9  /* token a is at the issuer. b: 1 if it is spent there, 0 if it is refused */
#define HEAR   10  /* the process hears b of token a */
#define FILLED 11  /* a new file is synced that holds token a */
#define STORE  12  /* the store holds token a for every reader */
#define SYNC   13  /* and a power cut would keep it */
#define FIRE   14  /* the session goes to token a, by trigger b */
#define ISSUE  15  /* somebody signs in: a new token of account a */
#define REVOKE 16  /* the issuer forgets token a */
#define BEGIN  17  /* the store holds token a before anything happens */

/* What a claim becomes, as b of CLAIM. */
#define IS_FREE 0
#define IS_CLAIMED 1
#define IS_DOUBTFUL 2
#define IS_SPENT 3
#define IS_DEAD 4

/* What a process hears, as b of HEAR. */
#define ANSWER 0   /* new tokens */
#define PARTIAL 1  /* a new refresh token, and no access token */
#define REFUSED 2
#define UNKNOWN 3  /* no answer: it may have been processed */
#define BUSY 4     /* it was certainly not processed */

/* Triggers of the session, as b of FIRE. */
#define LOGIN 0
#define EXTERNAL 1
#define LOGOUT 2
#define REFRESHED 3
#define REJECTED 4

#ifdef TRACE
byte next_kind, next_process, next_a, next_b;  /* the next event. Kind 0: there is none */
short trace_number, trace_position;
c_decl {
    \#include "trace_reader.h"
}
#define IS(kind, process, a, b) (next_kind == kind && next_process == process && next_a == (a) && next_b == (b))
#define SEEN(kind, process, a, b) c_code { \
    read_next_event(now.trace_number, &now.trace_position, &now.next_kind, &now.next_process, &now.next_a, &now.next_b); \
}
#define TELL(kind, process, a, b) skip
#define PROMISE(condition) (condition)
#define IN_TURN provided (next_process == _pid + 1 && \
    next_kind != READ && next_kind != ARRIVE && next_kind != DIE && !(next_kind == FIRE && next_b == EXTERNAL))
#define next_sender next_process
#else
#define IS(kind, process, a, b) true
#define TELL(kind, process, a, b) printf("step %d %d %d %d\n", kind, process, a, b)
#define SEEN(kind, process, a, b) skip
#define PROMISE(condition) assert(condition)
#define IN_TURN
#define next_sender NONE
c_decl {
    \#include "run_options.h"
}
#endif

/* Reads the traces that a run is to follow, from the file that $TRACES names: for each trace the number of its events,
 * then the events, of four numbers each. At the end of the run, prints for each trace how many events were followed.
 */

#include <stdio.h>
#include <stdlib.h>

typedef struct { int length; unsigned char (*events)[4]; int followed; } Trace;

static Trace *traces;
static int number_of_traces;

static void report(void) {
    for (int number = 0; number < number_of_traces; number++)
        printf("trace %d: followed %d of %d\n", number, traces[number].followed, traces[number].length);
}

static void read_traces(void) {
    FILE *file = fopen(getenv("TRACES"), "r");
    if (!file || fscanf(file, "%d", &number_of_traces) != 1) exit(2);
    traces = calloc(number_of_traces, sizeof(Trace));
    for (int number = 0; number < number_of_traces; number++) {
        Trace *trace = &traces[number];
        if (fscanf(file, "%d", &trace->length) != 1) exit(2);
        trace->events = calloc(trace->length + 1, 4);
        for (int event = 0; event < trace->length; event++)
            for (int field = 0; field < 4; field++) {
                int value;
                if (fscanf(file, "%d", &value) != 1) exit(2);
                trace->events[event][field] = value;
            }
    }
    fclose(file);
    atexit(report);
}

/* Give the next event of a trace. Its kind is 0 at the end of the trace. */
static void read_next_event(int number, short *position, unsigned char *kind, unsigned char *process,
                            unsigned char *a, unsigned char *b) {
    Trace *trace = &traces[number];
    if (*position > trace->followed) trace->followed = *position;
    unsigned char *event = trace->events[*position];
    *kind = event[0], *process = event[1], *a = event[2], *b = event[3];
    ++*position;
}

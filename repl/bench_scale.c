/* `tg bench scale`: training on several ranks of this host beside one. Strong scaling keeps the global batch, weak
 * scaling a rank's share of it. The two networks are trained on made-up data by `fit`, as a user's program is; what is
 * compiled is left out. A line each: samples a second, its ratio to the first number of ranks (weak: times ranks), the
 * part of the time that ranks waited for others ("exposed"), and of a step: what a rank sends, the collectives, the
 * buckets of sums among them, the sums in those, and the bytes of a bucket. */
#include "repl/bench_scale.h"
#include "repl/ranks.h"
#include "dist/nccl.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { STEPS = 40, RUNS = 3, MOST = 8 };

typedef struct Net {
  const char *name, *text; /* defines net, x, y */
  int batch;
} Net;
static const Net nets[] = {
    {"mlp",
     "net = models.mlp((784, 512, 256, 10))\nx = [f32((n * 37 + i * 11) % 101) / 50 - 1 for n in 0..1024, i in "
     "0..784]\n",
     256},
    {"cnn",
     "model Net()(x: [..., 1, 28, 28]) = x |> Conv(_, 32, 3) |> BatchNorm(_) |> relu |> maxpool(2) |> Conv(_, 64, 3) "
     "|> relu\n"
     "  |> maxpool(2) |> flatten |> Dense(_, 128) |> relu |> Dropout(0.3) |> Dense(_, 10)\nnet = Net()\n"
     "x = [f32((n * 37 + i * 11 + j * 5) % 101) / 50 - 1 for n in 0..512, c in 0..1, i in 0..28, j in 0..28]\n",
     64},
};
enum { NETS = sizeof nets / sizeof *nets };

/* One run, seen from rank 0; shared with the process that does it. */
typedef struct Outcome {
  double seconds;
  CommStats did;
} Outcome;
typedef struct Job {
  const char *text;
  Outcome *out;
} Job;

static int train(const HostOptions *o, void *ctx) {
  const Job *j = ctx;
  Host *h = host_new(o);
  host_catch_interrupt();
  progress_free(h->nh.progress); /* no lines of epochs between those of the table */
  h->nh.progress = NULL;
  int code = host_unit(h, "scale", j->text, strlen(j->text), UNIT_SCRIPT);
  Comm *c = o->comm;
  CommStats s = c ? comm_stats(c) : (CommStats){0};
  if (h->nccl) s.bytes += nccl_stats(h->nccl).bytes, s.collectives += nccl_stats(h->nccl).collectives;
  if (!code && (!c || comm_rank(c) == 0)) *j->out = (Outcome){h->times.run, s};
  host_free(h);
  return code;
}

/* The fastest of some runs, without what does not grow with the steps: a long run less a short one. */
static int measure(const HostOptions *o, const Net *net, int ranks, int batch, Outcome *best) {
  Outcome *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return EXIT_RUN;
  Outcome of[2] = {{.seconds = 1e30}, {.seconds = 1e30}};
  int code = EXIT_OK;
  for (int run = 0; run < 2 * RUNS && !code; run++) {
    int steps = run % 2 ? 2 * STEPS : STEPS;
    char *text;
    HostOptions here = *o;
    here.ranks = ranks;
    if (asprintf(&text,
                 "import opt, models\nseed(1)\n%sy = [n %% 10 for n in 0..len(x)]\n"
                 "def loss(net, x, y) = mean(cross_entropy(net(x), y))\n"
                 "net, _ = fit(net, loss, {x, y}, opt.adam(1e-3), steps = %d, batch = %d)\nassert(sum(leaves(net)[0]) "
                 "< 1e9)\n",
                 net->text, steps, batch) < 0)
      return EXIT_RUN;
    code = ranks_run(&here, train, &(Job){text, shared});
    free(text);
    if (!code && shared->seconds < of[run % 2].seconds) of[run % 2] = *shared;
  }
  CommStats a = of[0].did, b = of[1].did;
  *best = (Outcome){of[1].seconds - of[0].seconds,
                    {b.collectives - a.collectives, b.bytes - a.bytes, b.buckets - a.buckets, b.sums - a.sums,
                     b.held - a.held, b.direct - a.direct, b.waited - a.waited}};
  munmap(shared, sizeof *shared);
  return code;
}

static int scale(const HostOptions *o, const Net *net, bool weak, int n, const int *ranks) {
  double first = 0;
  fprintf(o->out ? o->out : stdout,
          "%s, %s scaling, %s %d\nranks   samples/s   ratio  exposed   KB a step  collectives  buckets   sums  KB a "
          "bucket\n",
          net->name, weak ? "weak" : "strong", weak ? "a rank's share of the batch" : "batch", net->batch);
  for (int k = 0; k < n; k++) {
    Outcome b;
    int batch = weak ? net->batch * ranks[k] : net->batch;
    int code = measure(o, net, ranks[k], batch, &b);
    if (code) return code;
    double rate = b.seconds > 0 ? STEPS * (double)batch / b.seconds : 0;
    if (!k) first = rate / (weak ? ranks[k] : 1);
    fprintf(o->out ? o->out : stdout, "%5d %11.0f  %5.2fx  %5.1f %%  %10.1f  %11.1f  %7.1f  %5.1f  %11.1f\n", ranks[k],
            rate, rate / (weak ? first * ranks[k] : first), b.seconds > 0 ? 100 * b.did.waited / b.seconds : 0,
            (double)b.did.bytes / STEPS / 1e3, (double)b.did.collectives / STEPS, (double)b.did.buckets / STEPS,
            (double)b.did.sums / STEPS, b.did.buckets ? (double)b.did.held / (double)b.did.buckets / 1e3 : 0);
    fflush(o->out ? o->out : stdout);
  }
  return EXIT_OK;
}

int bench_scale(const HostOptions *o, const char *list) {
  int ranks[MOST], n = 0;
  const char *s = list ? list : "1,2,4";
  for (char *end; *s; s = *end ? end + 1 : end) {
    long r = strtol(s, &end, 10);
    if (end == s || r < 1 || r > 64 || n == MOST || (*end && *end != ',')) {
      fprintf(stderr, "tg: --ranks of bench scale is a list of numbers from 1 to 64, as 1,2,4, not %s\n", list);
      return EXIT_USAGE;
    }
    ranks[n++] = (int)r;
  }
  int code = EXIT_OK;
  for (int k = 0; k < NETS && !code; k++)
    for (int weak = 0; weak < 2 && !code; weak++) code = scale(o, &nets[k], weak, n, ranks);
  return code;
}

/* Arguments, commands and help, driven by options.def. */
#include "cli.h"
#include "build.h"
#include "bench_scale.h"
#include "ranks.h"
#include "codegen/aot/aot.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
  const char *name, *args, *help;
} Command;
typedef struct {
  const char *name, *letter, *value, *help;
} Option;
static const Command commands[] = {
#define COMMAND(name, args, help) {name, args, help},
#define OPTION(...)
#include "options.def"
#undef COMMAND
#undef OPTION
};
static const Option options[] = {
#define COMMAND(...)
#define OPTION(name, letter, value, help) {name, letter, value, help},
#include "options.def"
#undef COMMAND
#undef OPTION
};
enum { NCOMMAND = sizeof commands / sizeof *commands, NOPTION = sizeof options / sizeof *options };

typedef struct Line {
  const char *command;        /* NULL: prompt, or file, or -e */
  const char *given[NOPTION]; /* value, or "" for a flag; NULL absent */
  int nfile;
  char **file;
  int narg;
  const char **arg; /* --NAME value of the script */
} Line;

static void help(FILE *f) {
  fprintf(f, "tg %s: a small declarative tensor language\n\nusage:\n", TG_VERSION);
  fprintf(f, "  %-34s %s\n", "tg", "the prompt");
  fprintf(f, "  %-34s %s\n", "tg FILE [--ARG value ...]", "run a script; FILE may be - for standard input");
  for (int i = 0; i < NCOMMAND; i++) {
    char left[80];
    snprintf(left, sizeof left, "tg %s %s", commands[i].name, commands[i].args);
    fprintf(f, "  %-34s %s\n", left, commands[i].help);
  }
  fprintf(f, "\noptions:\n");
  for (int i = 0; i < NOPTION; i++) {
    char left[80];
    const Option *o = &options[i];
    snprintf(left, sizeof left, "%s%s%s--%s%s%s", o->letter ? "-" : "    ", o->letter ? o->letter : "",
             o->letter ? ", " : "", o->name, o->value ? "=" : "", o->value ? o->value : "");
    fprintf(f, "  %-34s %s\n", left, o->help);
  }
  fprintf(f, "\npasses (for --dump and --stop):\n");
  for (int i = 0; i < PASS_COUNT; i++) fprintf(f, "  %-34s %s\n", pass_info[i].name, pass_info[i].reason);
  fprintf(
      f,
      "\nexit codes: 0; 1 run-time error or failed test; 2 usage; 3 the program does not compile; 130 interrupted\n");
}
static int usage(const char *what, const char *which) {
  fprintf(stderr, "tg: %s%s%s; see tg --help\n", what, which ? " " : "", which ? which : "");
  return EXIT_USAGE;
}

static const char **given(Line *l, const char *name) {
  for (int i = 0; i < NOPTION; i++)
    if (!strcmp(options[i].name, name)) return &l->given[i];
  return NULL;
}
static const char *value_of(Line *l, const char *name) { return *given(l, name); }

/* Its help begins with the one command that it goes with, as "build: ". After a script such a name is the script's own.
 */
static bool of_other_command(const Option *o) {
  for (int k = 0; k < NCOMMAND; k++) {
    size_t n = strlen(commands[k].name);
    if (!strncmp(o->help, commands[k].name, n) && o->help[n] == ':') return true;
  }
  return false;
}
/* One argument; *used is how many words it took. Returns 0, or an exit code. */
static int take_option(Line *l, char **word, int nword, int *used) {
  const char *w = word[0];
  *used = 1;
  bool is_long = w[1] == '-';
  const char *name = w + 1 + is_long, *eq = is_long ? strchr(name, '=') : NULL;
  size_t len = eq ? (size_t)(eq - name) : strlen(name);
  for (int i = 0; i < NOPTION; i++) {
    const Option *o = &options[i];
    const char *spelled = is_long ? o->name : o->letter;
    if (!spelled || strlen(spelled) != len || strncmp(spelled, name, len)) continue;
    if (is_long && l->nfile && (!l->command || !strcmp(l->command, "run")) && of_other_command(o)) break;
    if (!o->value) {
      if (eq) return usage("this option takes no value:", w);
      l->given[i] = "";
    } else if (eq)
      l->given[i] = eq + 1;
    else if (nword > 1)
      l->given[i] = word[1], *used = 2;
    else
      return usage("a value is missing after", w);
    return 0;
  }
  if (!is_long || !l->nfile) return usage("unknown option", w);
  /* --NAME value: an `arg` of the script */
  const char *v = eq ? eq + 1 : nword > 1 ? word[1] : NULL;
  if (!v) return usage("a value is missing after", w);
  *used = eq ? 1 : 2;
  l->arg[l->narg++] = strndup(name, len);
  l->arg[l->narg++] = v;
  return 0;
}

static int parse_line(int argc, char **argv, Line *l) {
  for (int i = 1; i < argc;) {
    char *w = argv[i];
    int used = 1;
    if (w[0] == '-' && w[1]) {
      int e = take_option(l, argv + i, argc - i, &used);
      if (e) return e;
    } else {
      bool is_command = false;
      for (int k = 0; k < NCOMMAND && !l->command && !l->nfile; k++)
        if (!strcmp(w, commands[k].name)) l->command = commands[k].name, is_command = true;
      if (!is_command) l->file[l->nfile++] = w;
    }
    i += used;
  }
  return 0;
}

static bool is_bench_scale(const Line *l) {
  return l->command && !strcmp(l->command, "bench") && l->nfile && !strcmp(l->file[0], "scale");
}

static int host_options(Line *l, HostOptions *o) {
  *o = (HostOptions){.stop = PASS_COUNT,
                     .narg = l->narg,
                     .arg = l->arg,
                     .stats = value_of(l, "stats") != NULL,
                     .profile = value_of(l, "profile") != NULL,
                     .tf32 = value_of(l, "tf32") != NULL};
  o->color = isatty(2) && !getenv("NO_COLOR");
  const char *s;
  if ((s = value_of(l, "threads"))) {
    char *end;
    long n = strtol(s, &end, 10);
    if (*end || n < 1 || n > 256) return usage("--threads is a number from 1 to 256, not", s);
    o->threads = (int)n;
  }
  if ((s = value_of(l, "ranks")) && !is_bench_scale(l)) {
    char *end;
    long n = strtol(s, &end, 10);
    if (*end || n < 1 || n > 64) return usage("--ranks is a number from 1 to 64, not", s);
    bool runs = value_of(l, "eval") || (l->nfile && (!l->command || !strcmp(l->command, "run")));
    if (!runs) return usage("--ranks goes with `run FILE` and with -e", NULL);
    o->ranks = (int)n;
  }
  o->trace = value_of(l, "trace"), o->no_overlap = value_of(l, "no-overlap") != NULL;
  if ((s = value_of(l, "reduce"))) {
    o->fast_reduce = !strcmp(s, "fast");
    if (!o->fast_reduce && strcmp(s, "exact")) return usage("--reduce is exact or fast, not", s);
  }
  if ((s = value_of(l, "device")) || ((s = getenv("TG_DEVICE")) && *s)) {
    o->oracle = !strcmp(s, "oracle");
    o->fall_back = !strcmp(s, "auto");
    o->cuda = o->fall_back || !strcmp(s, "cuda");
    if (!o->oracle && !o->cuda && strcmp(s, "cpu")) return usage("devices are cpu, cuda, auto and oracle, not", s);
  }
  if ((s = value_of(l, "dump"))) {
    char *list = strdup(s), *save;
    for (char *p = strtok_r(list, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
      PassId id = pass_by_name(p);
      if (id == PASS_COUNT) return free(list), usage("no such pass:", s);
      o->dump[id] = true;
    }
    free(list);
  }
  if ((s = value_of(l, "stop")) && (o->stop = pass_by_name(s)) == PASS_COUNT) return usage("no such pass:", s);
  return 0;
}

static void print_stats(const Host *h) {
  if (!h->codegen) return;
  CodegenStats s = codegen_stats(h->codegen);
  fprintf(stderr,
          "kernels: %d in the plan; compiled %lld, from memory %lld, from disk %lld; arena %zu bytes, scratch %zu\n",
          h->last.kernels, (long long)s.kernels_compiled, (long long)s.kernels_from_memory,
          (long long)s.kernels_from_disk, h->last.arena_bytes, h->last.scratch_bytes);
  ranks_gpu_stats(h);
}

typedef struct Unit {
  const char *name, *text;
  size_t len;
  UnitKind kind;
} Unit;
static int run_unit(const HostOptions *o, void *ctx) {
  const Unit *u = ctx;
  Host *h = host_new(o);
  host_catch_interrupt();
  int code = host_unit(h, u->name, u->text, u->len, u->kind);
  if (o->stats && (!o->comm || comm_rank(o->comm) == 0)) print_stats(h);
  code = ranks_end(h, code);
  host_free(h);
  return code;
}
static int run_text(const HostOptions *o, const char *name, const char *text, size_t len, UnitKind kind) {
  return ranks_run(o, run_unit, &(Unit){name, text, len, kind});
}
static int cmd_run(const HostOptions *o, const char *path) {
  size_t len;
  char *text = strcmp(path, "-") ? host_read_file(path, &len) : host_read_stream(stdin, &len);
  if (!text) return EXIT_USAGE;
  int code = run_text(o, strcmp(path, "-") ? path : "<stdin>", text, len, UNIT_SCRIPT);
  free(text);
  return code;
}
static int cmd_check(const HostOptions *o, Line *l) {
  int code = EXIT_OK;
  for (int i = 0; i < l->nfile; i++) {
    size_t len;
    char *text = host_read_file(l->file[i], &len);
    if (!text) return EXIT_USAGE;
    Host *h = host_new(o);
    Region unit;
    bool ok = session_unit(h->session, diag_source(h->diags, l->file[i], text, len), UNIT_SCRIPT, &unit);
    int mistakes = ok ? build_check(h, l->file[i], value_of(l, "batch")) : EXIT_COMPILE;
    if (mistakes) code = mistakes;
    host_report(h);
    host_free(h);
    free(text);
  }
  return code;
}
/* Replaces a file by way of a temporary beside it: the old text is there until the new one is safe. */
static bool replace_file(const char *path, const char *text) {
  char *tmp;
  if (asprintf(&tmp, "%s.tgfmt.%d", path, (int)getpid()) < 0) return false;
  FILE *f = fopen(tmp, "wb");
  struct stat st;
  if (f && stat(path, &st) == 0) (void)!fchmod(fileno(f), st.st_mode & 07777);
  bool ok = f && fputs(text, f) >= 0 && fflush(f) == 0 && fsync(fileno(f)) == 0;
  if (f) ok = fclose(f) == 0 && ok;
  ok = ok && rename(tmp, path) == 0;
  if (!ok) {
    perror(path);
    unlink(tmp);
  }
  free(tmp);
  return ok;
}
static int cmd_fmt(const HostOptions *o, Line *l) {
  int code = EXIT_OK;
  for (int i = 0; i < l->nfile; i++) {
    bool in = !strcmp(l->file[i], "-");
    size_t len;
    char *text = in ? host_read_stream(stdin, &len) : host_read_file(l->file[i], &len);
    if (!text) return EXIT_USAGE;
    Host *h = host_new(o);
    char *canon = format_source(h->diags, h->arena, diag_source(h->diags, l->file[i], text, len));
    host_report(h);
    if (!canon)
      code = EXIT_COMPILE;
    else if (in)
      fputs(canon, stdout);
    else if (strlen(canon) != len || memcmp(canon, text, len)) {
      if (value_of(l, "check")) {
        printf("%s\n", l->file[i]);
        if (!code) code = EXIT_RUN;
      } else if (!replace_file(l->file[i], canon))
        code = EXIT_RUN;
    }
    host_free(h);
    free(text);
  }
  return code;
}
static int cmd_explain(const char *code) {
  ErrId id = err_by_code(code);
  if (id == ERR_COUNT) return usage("no such error code:", code);
  const ErrInfo *e = &err_info[id];
  printf("%s: %s\n\n%s\n", e->code, e->title, e->doc);
  if (*e->bad) printf("\nThis fails:\n\n%s\nThis works:\n\n%s", e->bad, e->good);
  return EXIT_OK;
}

static int cmd_build(Line *l, const HostOptions *ho) {
  const char *emit = value_of(l, "emit"), *target = value_of(l, "target");
  const char *device = value_of(l, "device"); /* TG_DEVICE is for the script's own work */
  BuildOptions o = {value_of(l, "output"),         emit ? emit : "so",
                    target ? target : "native",    value_of(l, "weights"),
                    value_of(l, "batch"),          value_of(l, "python") != NULL,
                    value_of(l, "no-fit") != NULL, device && !strcmp(device, "cuda")};
  HostOptions host = *ho;
  if (o.cuda) host.cuda = false; /* no GPU is needed to build for one */
  static const char *const emits[] = {"so", "obj", "llvm", "asm", "dot"};
  bool known = false;
  for (int i = 0; i < 5; i++) known |= !strcmp(o.emit, emits[i]);
  if (!known) return usage("--emit is so, obj, llvm, asm or dot, not", o.emit);
  known = false;
  for (const AotTarget *t = aot_targets; t->name; t++) known |= !strcmp(o.target, t->name);
  if (!known) {
    fprintf(stderr, "tg: no such target: %s; targets are\n", o.target);
    for (const AotTarget *t = aot_targets; t->name; t++) fprintf(stderr, "  %-12s %s\n", t->name, t->what);
    return EXIT_USAGE;
  }
  return build_run(&host, &o, l->file[0]);
}

static int dispatch(Line *l) {
  HostOptions o;
  int e = host_options(l, &o);
  if (e) return e;
  if (value_of(l, "help")) return help(stdout), EXIT_OK;
  if (value_of(l, "version")) return printf("tg %s\n", TG_VERSION), EXIT_OK;
  const char *code = value_of(l, "eval");
  if (code) {
    if (l->command || l->nfile) return usage("-e takes no file", NULL);
    return run_text(&o, "<command>", code, strlen(code), UNIT_ENTRY);
  }
  if (!l->command && !l->nfile) {
    Host *h = host_new(&o);
    int r = prompt_run(h);
    host_free(h);
    return r;
  }
  const char *c = l->command ? l->command : "run";
  if (!strcmp(c, "devices")) return devices_run(stdout), EXIT_OK;
  if (!strcmp(c, "test")) return test_run(&o, l->nfile, l->file);
  if (!strcmp(c, "doc") && !l->nfile) return doc_run(&o, NULL);
  if (!l->nfile) return usage("a file is missing after", c);
  if (!strcmp(c, "check")) return cmd_check(&o, l);
  if (!strcmp(c, "fmt")) return cmd_fmt(&o, l);
  if (l->nfile > 1) return usage("one argument is enough:", l->file[1]);
  if (!strcmp(c, "doc")) return doc_run(&o, l->file[0]);
  if (!strcmp(c, "explain")) return cmd_explain(l->file[0]);
  if (!strcmp(c, "inspect")) return inspect_run(l->file[0]);
  if (!strcmp(c, "build")) return cmd_build(l, &o);
  if (is_bench_scale(l)) return bench_scale(&o, value_of(l, "ranks"));
  if (!strcmp(c, "bench")) return is_library(l->file[0]) ? bench_lib(&o, l->file[0]) : bench_run(&o, l->file[0]);
  return cmd_run(&o, l->file[0]);
}

int tg_main(int argc, char **argv) {
  Line l = {.file = calloc((size_t)argc + 1, sizeof(char *)), .arg = calloc(2 * (size_t)argc + 2, sizeof(char *))};
  if (!l.file || !l.arg) return EXIT_RUN;
  int code = parse_line(argc, argv, &l);
  if (!code) code = dispatch(&l);
  for (int i = 0; i < l.narg; i += 2) free((char *)l.arg[i]);
  free(l.file);
  free(l.arg);
  if (fflush(stdout) != 0 && !code) code = EXIT_RUN;
  return code;
}

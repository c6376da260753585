/* The interactive session on libedit: history, entries of several lines (the parser decides), completion, commands.
 *
 * An entry goes through host_unit; whatever fails leaves the session alive. Lines pasted in brackets (ESC [200~ ...
 * ESC [201~) are taken as they are, without completion or redrawing by keystroke. */
#include "cli.h"
#include "lang/docs.h"
#include <errno.h>
#include <histedit.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { HISTORY_LINES = 5000, PASTE_LIMIT = 16 << 20 };

typedef struct Prompt {
  Host *h;
  EditLine *el;
  History *history;
  HistEvent event;
  const char *history_path;
  char *entry; /* lines so far; NULL: none */
  size_t len;
  int number; /* of the entry, for positions in messages */
  char *last; /* the last complete entry, for :graph and its kin without an argument */
  bool quit;
} Prompt;

/* ---- commands ---------------------------------------------------------------------------------------------------- */
typedef struct Command Command;
struct Command {
  const char *name, *args, *help;
  void (*run)(Prompt *p, const struct Command *self, const char *arg);
  PassId pass;
};
static void cmd_help(Prompt *p, const Command *self, const char *arg);
static void cmd_type(Prompt *p, const Command *self, const char *arg);
static void cmd_dump(Prompt *p, const Command *self, const char *arg);
static void cmd_time(Prompt *p, const Command *self, const char *arg);
static void cmd_quit(Prompt *p, const Command *self, const char *arg) { (void)self, (void)arg, p->quit = true; }
static const Command commands[] = {
    {":help", "", "this list", cmd_help, 0},
    {":t", "EXPR", "the type of an expression, without running it", cmd_type, 0},
    {":time", "EXPR", "run it and say how long checking, compiling and running took", cmd_time, 0},
    {":graph", "[EXPR]", "its graph of comprehensions, in normal form (the last entry without EXPR)", cmd_dump,
     PASS_SIMPLIFY},
    {":kernels", "[EXPR]", "the kernels it becomes, and why each boundary stands", cmd_dump, PASS_FUSE},
    {":llvm", "[EXPR]", "LLVM IR of its kernels", cmd_dump, PASS_LLVM},
    {":asm", "[EXPR]", "machine code of its kernels", cmd_dump, PASS_ASM},
    {":cuda", "[EXPR]", "CUDA C of its kernels, as a GPU would run them", cmd_dump, PASS_CUDA},
    {":quit", "", "leave (also Ctrl-D)", cmd_quit, 0},
};
enum { NCOMMAND = sizeof commands / sizeof *commands };

static void cmd_help(Prompt *p, const Command *self, const char *arg) {
  FILE *f = p->h->o.out;
  (void)arg;
  fprintf(
      f,
      "An entry is a statement or an expression, whose value is printed (`;` at the end hides it) and bound to `ans`.\n"
      "Entries go on over several lines while a bracket, a block or an operator is open. Tab completes names.\n"
      "  %-18s %s\n",
      "?name", "documentation of a name");
  for (int i = 0; i < NCOMMAND; i++) {
    char left[64];
    snprintf(left, sizeof left, "%s %s", commands[i].name, commands[i].args);
    fprintf(f, "  %-18s %s\n", left, commands[i].help);
  }
}

static void run_entry(Prompt *p, const char *text) {
  char name[32];
  snprintf(name, sizeof name, "<entry %d>", ++p->number);
  host_unit(p->h, name, text, strlen(text), UNIT_ENTRY);
}
static void cmd_type(Prompt *p, const Command *self, const char *arg) {
  Arena *a = arena_new();
  char *t = session_type(p->h->session, diag_source(p->h->diags, "<:t>", arg, strlen(arg)), a);
  host_report(p->h);
  if (t) fprintf(p->h->o.out, "%s\n", t);
  arena_free(a);
}
static void cmd_dump(Prompt *p, const Command *self, const char *arg) {
  HostOptions saved = p->h->o;
  const char *text = *arg ? arg : p->last;
  if (!text) {
    fprintf(stderr, "nothing has been entered yet\n");
    return;
  }
  p->h->o.dump[self->pass] = true, p->h->o.stop = self->pass;
  run_entry(p, text);
  p->h->o = saved;
}
static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static void cmd_time(Prompt *p, const Command *self, const char *arg) {
  int64_t before = p->h->codegen ? codegen_stats(p->h->codegen).kernels_compiled : 0;
  double t0 = seconds();
  run_entry(p, arg);
  double t = seconds() - t0;
  int64_t n = (p->h->codegen ? codegen_stats(p->h->codegen).kernels_compiled : 0) - before;
  HostTimes *w = &p->h->times;
  fprintf(stderr, "%.3f ms: check %.3f, compile %.3f (%lld new kernel%s), run %.3f\n", t * 1e3, w->check * 1e3,
          w->compile * 1e3, (long long)n, n == 1 ? "" : "s", w->run * 1e3);
}

static void run_command(Prompt *p, const char *line) {
  size_t n = strcspn(line, " \t\n");
  const char *arg = line + n + strspn(line + n, " \t\n");
  for (int i = 0; i < NCOMMAND; i++)
    if (strlen(commands[i].name) == n && !strncmp(line, commands[i].name, n)) {
      if (!strcmp(commands[i].args, "EXPR") && !*arg)
        fprintf(stderr, "%s needs an expression\n", commands[i].name);
      else
        commands[i].run(p, &commands[i], arg);
      return;
    }
  fprintf(stderr, "no such command: %.*s; :help lists them\n", (int)n, line);
}
static void show_doc(Prompt *p, const char *line) {
  char name[256];
  Arena *a = arena_new();
  snprintf(name, sizeof name, "%s", line + 1 + strspn(line + 1, " \t"));
  name[strcspn(name, " \t\r\n")] = 0;
  char *doc = *name ? session_doc(p->h->session, name, a) : NULL;
  if (!*name)
    cmd_help(p, NULL, "");
  else if (doc)
    fprintf(p->h->o.out, "%s\n", doc);
  else
    fprintf(stderr, "no documentation of `%s`\n", name);
  arena_free(a);
}

/* ---- entries ----------------------------------------------------------------------------------------------------- */
static bool append(Prompt *p, const char *line) {
  size_t n = strlen(line);
  char *more = realloc(p->entry, p->len + n + 2);
  if (!more) return false;
  p->entry = more;
  memcpy(more + p->len, line, n + 1);
  p->len += n;
  if (!n || line[n - 1] != '\n') strcpy(more + p->len, "\n"), p->len++;
  return true;
}
static void forget(Prompt *p) {
  free(p->entry);
  p->entry = NULL, p->len = 0;
}
static bool is_blank(const char *s) { return s[strspn(s, " \t\r\n")] == 0; }

/* One more line. Runs the entry when it is complete; an empty line ends one that is not. */
static void take_line(Prompt *p, const char *line) {
  const char *first = line + strspn(line, " \t");
  if (!p->entry && is_blank(line)) return;
  if (!p->entry && (*first == ':' || *first == '?')) {
    if (p->history) history(p->history, &p->event, H_ENTER, line);
    if (*first == ':')
      run_command(p, first);
    else
      show_doc(p, first);
    return;
  }
  if (!append(p, line)) {
    fprintf(stderr, "out of memory\n");
    forget(p);
    return;
  }
  if (parse_complete(p->entry, p->len) == PARSE_MORE && !is_blank(line)) return;
  if (p->history) history(p->history, &p->event, H_ENTER, p->entry);
  free(p->last);
  p->last = p->entry;
  p->entry = NULL, p->len = 0;
  run_entry(p, p->last);
}

/* ---- editing ----------------------------------------------------------------------------------------------------- */
static Prompt *prompt_of(EditLine *el) {
  Prompt *p;
  el_get(el, EL_CLIENTDATA, &p);
  return p;
}
static const char *text_of_prompt(EditLine *el) { return prompt_of(el)->entry ? "... " : "tg> "; }

static bool is_word(char c) {
  return c == '_' || c == '.' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         (unsigned char)c >= 0x80;
}
static size_t common(const char *a, const char *b) {
  size_t n = 0;
  while (a[n] && a[n] == b[n]) n++;
  return n;
}
static void list_names(int n, const char *const *name) {
  size_t wide = 0, col = 0;
  for (int i = 0; i < n; i++) wide = strlen(name[i]) > wide ? strlen(name[i]) : wide;
  fputc('\n', stdout);
  for (int i = 0; i < n; i++) {
    if (col && col + wide + 2 > 80) fputc('\n', stdout), col = 0;
    printf("%-*s  ", (int)wide, name[i]);
    col += wide + 2;
  }
  fputc('\n', stdout);
}
static unsigned char complete(EditLine *el, int ch) {
  Prompt *p = prompt_of(el);
  const LineInfo *line = el_line(el);
  const char *start = line->cursor;
  (void)ch;
  while (start > line->buffer && is_word(start[-1])) start--;
  if (start == line->cursor) { /* nothing to complete: indent */
    el_insertstr(el, "  ");
    return CC_REFRESH;
  }
  Arena *a = arena_new();
  const char *prefix = arena_strndup(a, start, (size_t)(line->cursor - start)), **name;
  int n = session_complete(p->h->session, prefix, &name, a);
  diags_clear(p->h->diags);
  unsigned char r = CC_ERROR;
  if (n) {
    size_t have = strlen(prefix), shared = strlen(name[0]);
    for (int i = 1; i < n; i++) {
      size_t c = common(name[0], name[i]);
      shared = c < shared ? c : shared;
    }
    if (shared > have) {
      el_insertstr(el, arena_strndup(a, name[0] + have, shared - have));
      r = CC_REFRESH;
    } else if (n > 1) {
      list_names(n, name);
      r = CC_REDISPLAY;
    }
  }
  arena_free(a);
  return r;
}

/* ESC [200~: reads to ESC [201~ and inserts; lines but the last are taken at once. */
static unsigned char paste(EditLine *el, int ch) {
  static const char end[] = "\033[201~";
  char *text = NULL;
  size_t n = 0, cap = 0;
  char c;
  (void)ch;
  while (n < PASTE_LIMIT && el_getc(el, &c) == 1) {
    if (n + 1 >= cap) {
      char *more = realloc(text, cap = cap ? 2 * cap : 256);
      if (!more) break;
      text = more;
    }
    text[n++] = c == '\r' ? '\n' : c;
    if (n >= sizeof end - 1 && !memcmp(text + n - (sizeof end - 1), end, sizeof end - 1)) {
      n -= sizeof end - 1;
      break;
    }
  }
  if (!text) return CC_ERROR;
  text[n] = 0;
  for (char *s = text; *s; s++)
    if (*s == '\t') *s = ' ';
  char *last = strrchr(text, '\n');
  if (!last)
    el_insertstr(el, text);
  else {
    Prompt *p = prompt_of(el);
    const LineInfo *li = el_line(el);
    char *before = strndup(li->buffer, (size_t)(li->lastchar - li->buffer));
    el_deletestr(el, (int)(li->cursor - li->buffer));
    *last = 0;
    fputc('\n', stdout);
    for (char *s = text, *nl; s; s = nl) {
      nl = strchr(s, '\n');
      if (nl) *nl++ = 0;
      char *joined;
      if (asprintf(&joined, "%s%s", s == text && before ? before : "", s) < 0) break;
      take_line(p, joined);
      free(joined);
    }
    free(before);
    if (last[1]) el_insertstr(el, last + 1);
  }
  free(text);
  return CC_REDISPLAY;
}

/* While a line is edited Ctrl-C and Ctrl-Z are keys (libedit reads on over the signals); while a program runs they are
 * signals. */
static unsigned char suspend(EditLine *el, int ch) {
  (void)ch;
  el_set(el, EL_PREP_TERM, 0);
  raise(SIGTSTP);
  el_set(el, EL_PREP_TERM, 1);
  return CC_REDISPLAY;
}
/* Drops the line, and the entry that it continues. */
static unsigned char drop_entry(EditLine *el, int ch) {
  const LineInfo *line = el_line(el);
  (void)ch;
  fputs("^C\n", stdout);
  el_cursor(el, (int)(line->lastchar - line->cursor));
  line = el_line(el);
  el_deletestr(el, (int)(line->cursor - line->buffer));
  forget(prompt_of(el));
  return CC_REDISPLAY;
}

/* ---- history ----------------------------------------------------------------------------------------------------- */
static const char *history_path(Host *h) {
  const char *s = getenv("TG_HISTORY"), *base;
  if (s) return *s ? s : NULL;
  base = getenv("XDG_STATE_HOME");
  if (!base || !*base) {
    base = getenv("HOME");
    if (!base || !*base) return NULL;
    base = arena_printf(h->arena, "%s/.local/state", base);
  }
  char *dir = arena_printf(h->arena, "%s/tg", base);
  for (char *c = dir + 1; *c; c++)
    if (*c == '/') *c = 0, mkdir(dir, 0700), *c = '/';
  mkdir(dir, 0700);
  return arena_printf(h->arena, "%s/history", dir);
}

/* By the wide interface, which keeps both texts where they are: the other one copies them and never frees the copies. */
static void command(EditLine *el, const wchar_t *name, const wchar_t *help, unsigned char (*run)(EditLine *, int)) {
  el_wset(el, EL_ADDFN, name, help, run);
}

static void edit_loop(Prompt *p) {
  Host *h = p->h;
  p->el = el_init("tg", stdin, stdout, stderr);
  p->history = history_init();
  if (!p->el || !p->history) {
    fprintf(stderr, "tg: the terminal cannot be edited\n");
    return;
  }
  p->history_path = history_path(h);
  history(p->history, &p->event, H_SETSIZE, HISTORY_LINES);
  history(p->history, &p->event, H_SETUNIQUE, 1);
  if (p->history_path) history(p->history, &p->event, H_LOAD, p->history_path);
  el_set(p->el, EL_CLIENTDATA, p);
  el_set(p->el, EL_PROMPT, text_of_prompt);
  el_set(p->el, EL_HIST, history, p->history);
  el_set(p->el, EL_EDITOR, "emacs");
  el_set(p->el, EL_SIGNAL, 0);
  command(p->el, L"tg-complete", L"complete a name", complete);
  el_set(p->el, EL_BIND, "^I", "tg-complete", NULL);
  command(p->el, L"tg-paste", L"insert pasted text", paste);
  el_set(p->el, EL_BIND, "\033[200~", "tg-paste", NULL);
  el_set(p->el, EL_SETTY, "-d", "-isig", NULL);
  command(p->el, L"tg-drop", L"drop the line and its entry", drop_entry);
  el_set(p->el, EL_BIND, "^C", "tg-drop", NULL);
  command(p->el, L"tg-suspend", L"stop the program until it is continued", suspend);
  el_set(p->el, EL_BIND, "^Z", "tg-suspend", NULL);
  el_set(p->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
  el_source(p->el, NULL);
  printf("tg %s   :help for help, Ctrl-D to leave\n\033[?2004h", TG_VERSION);
  while (!p->quit) {
    int n;
    host_interrupt = 0;
    errno = 0;
    const char *line = el_gets(p->el, &n);
    if (line && n > 0)
      take_line(p, line);
    else if (host_interrupt || errno == EINTR) {
      forget(p);
      fputc('\n', stdout);
      el_reset(p->el);
    } else
      break;
  }
  printf("\033[?2004l%s", p->quit ? "" : "\n");
  if (p->history_path) history(p->history, &p->event, H_SAVE, p->history_path);
  history_end(p->history);
  el_end(p->el);
}
/* Standard input is no terminal: entries line by line, without prompts. */
static void plain_loop(Prompt *p) {
  char *line = NULL;
  size_t cap = 0;
  while (!p->quit && getline(&line, &cap, stdin) > 0) take_line(p, line);
  if (p->entry) take_line(p, "");
  free(line);
}

int prompt_run(Host *h) {
  Prompt p = {.h = h};
  host_catch_interrupt();
  if (isatty(0) && isatty(1))
    edit_loop(&p);
  else
    plain_loop(&p);
  forget(&p);
  free(p.last);
  return EXIT_OK;
}

"The form of the course: a question, what it takes, exercises with answers, and what a reader is shown"
import ast, re
import pytest
from house.shared import NBS, ROOT, cells, plain, shows, source
from links import extras

LESSONS = [o for o in NBS if o.parent.name=='lessons']
by_lesson = pytest.mark.parametrize('nb', LESSONS, ids=lambda o: o.stem[:2])

def prose(nb): return '\n\n'.join(source(o) for o in cells(nb) if o['cell_type']=='markdown')

def test_the_lessons_are_found(): assert len(LESSONS)>=13

@by_lesson
def test_a_title_is_a_question(nb): assert re.match(r'# [^\n]+\?\n', source(cells(nb)[0]))

@by_lesson
def test_what_it_takes_stands_at_the_top(nb):
    i = next(i for i,o in enumerate(cells(nb)) if source(o).startswith('**What this page takes.**'))
    above = [source(o) for o in cells(nb)[:i] if o['cell_type']=='code']
    assert all('#| hide' in o or re.match('(from|import) ', o) for o in above) # nothing is shown before
    assert re.search(r'minutes?\b', source(cells(nb)[i]))

NEEDS = {'explain':r'\bintegrated_gradients\b|\bgradient_shap\b', 'onnx':r'\b(?:export_run|page_run|OnnxNet)\(',
         'dicom':r'\bdicom_\w+\(', 'quiz':r'\bQuiz\(', 'stats':r"\bmodel='(?:gee|mixed)'", 'app':r'\bgradio\b'}

@by_lesson
def test_what_the_library_does_not_bring_is_installed(nb):
    "By the first cell in Colab, and told at the top for everybody else: without it *Run all* stops halfway, or leaves a map out"
    src = '\n'.join(source(o) for o in cells(nb) if o['cell_type']=='code')
    wanted = ','.join(k for k,v in NEEDS.items() if re.search(v, src))
    assert extras(nb)==wanted
    takes = prose(nb).partition('**What this page takes.**')[2].partition('\n\n')[0]
    assert not wanted or f"`pip install \"fundus_fastai[{wanted}]\"`" in takes

@by_lesson
def test_small_is_said_in_one_place(nb):
    src = '\n'.join(source(o) for o in cells(nb) if o['cell_type']=='code')
    assert len(re.findall(r'\bquick\s*=[^=]', src)) == src.count('IN_TEST') <= 1

FOLDED = re.compile(r'<details>\s*<summary>Answers?</summary>\n\n(.*?)\n</details>', re.S)

def exercises(text):
    "How many exercises `text` has, and how many answers are folded away: one below each, or all of them, numbered, in one place"
    numbered = [len(re.findall(r'^\d+\. ', o, re.M)) for o in FOLDED.findall(text)]
    return len(re.findall(r'^(?:\d+\.|\*) ', FOLDED.sub('', text), re.M)),sum(max(1, n) for n in numbered)

@by_lesson
def test_exercises_have_folded_answers(nb):
    asked,told = exercises(prose(nb).partition('## Your turn')[2])
    assert asked==told>=2

@by_lesson
def test_research_use_only(nb): assert '**Research use only.**' in prose(nb)

def test_shows_sees():
    assert shows('a = 1\na') and shows('#| slow\nf(3)') and shows('df.head()')
    assert not any(map(shows, ('a = 1', '#| hide\na', 'test_eq(a, 1)', 'a.set(x=1);', 'shutil.rmtree(tmp)', '')))

@by_lesson
def test_what_is_shown_is_saved(nb):
    "A lesson is read before it is run: a value or a picture that was lost leaves the prose alone"
    assert [source(o)[:80] for o in cells(nb) if o['cell_type']=='code' and shows(source(o)) and not o['outputs']] == []

def only_tests(src):
    "Is the cell `src` made of tests alone?"
    def test(o): return isinstance(o, ast.Assert) or isinstance(o, ast.Expr) and ast.unparse(o.value).startswith('test_')
    body = ast.parse(plain(src)).body
    return bool(body) and all(map(test, body))

def test_only_tests_sees():
    assert only_tests('test_eq(a, 1)\nassert a') and not any(map(only_tests, ('a = 1\nassert a', 'a', '# a')))

@by_lesson
def test_tests_are_hidden(nb):
    "What holds the page is not what it tells"
    assert [s[:80] for o in cells(nb) if o['cell_type']=='code' and only_tests(s := source(o)) and '#| hide' not in s] == []

TOLD = re.compile(r'\bif not quick:|\bquick or ')

def test_told_sees(): assert TOLD.search('assert quick or a>1') and TOLD.search('if not quick: # as told\n    test_eq(a, 1)') and not TOLD.search('8 if quick else 24')

@by_lesson
def test_a_readers_net_may_learn_otherwise(nb):
    "What the text says of trained nets is held where lessons are rerun (FUNDUS_RERUN), and does not end a reader's *Run all*"
    assert [s[:80] for o in cells(nb) if '#| hide' in (s := source(o)) and o['cell_type']=='code' and re.search(r'\bassert\b|\btest_\w+\(', s) and TOLD.search(s)] == []

@by_lesson
def test_what_exercises_need_outlasts_run_all(nb):
    "Only a test's folder goes at once: a reader's stays until the kernel ends, for *Your turn*"
    assert [l for o in cells(nb) for l in source(o).splitlines() if 'rmtree(' in l and not l.startswith('if quick: ')] == []

def test_the_rerun_holds_it():
    assert "os.environ['FUNDUS_RERUN'] = " in (ROOT/'.ci/rerun.py').read_text()
    assert sum("'FUNDUS_RERUN'" in o.read_text() for o in LESSONS)>9

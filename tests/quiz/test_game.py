"The rules: who sees what, each answer once, nothing lost, nobody else let in"
import builtins, json, os, sys, threading
from datetime import date, timedelta
from pathlib import Path
import numpy as np, pandas as pd, pytest
from PIL import Image
from house.shared import ROOT, code
from made import class_table
from quizzes import squares
from fundus_fastai.cli import main
from fundus_fastai.core import DataError
from fundus_fastai.quiz import game
from fundus_fastai.quiz.game import Quiz, dealt_items, open_quiz, pool_of

FORM = dict(consent='yes', role='layman')
RUN = Path(__file__).parents[1]/'run/old_run/run'

@pytest.fixture
def quiz(tmp_path):
    q = squares(tmp_path, 4)
    yield q
    q.close()

def play(quiz, who, stop=None, right=True):
    while not (q := quiz.at(who))['done'] and q['n']!=stop:
        truth = quiz.items[q['item']]['truth']
        quiz.answer(who, q|dict(answer=truth if right else next(o for o in quiz.told['classes'] if o!=truth), confidence=90))

@pytest.mark.parametrize('n,names', [(1,'ab'), (5,'ab'), (50,'ab'), (7,'abcd'), (50,'abcd')])
def test_eyes_are_dealt_evenly_and_never_twice(n, names):
    truth = list(names)*(4*n)
    deals = [dealt_items(truth, n, seed=3, own=k) for k in range(6)]
    assert deals==[dealt_items(truth, n, seed=3, own=k) for k in range(6)]
    for train,test in deals:
        assert len(train)==len(test)==n and len({*train,*test})==2*n
        for o in (train,test): assert np.ptp([sum(truth[i]==c for i in o) for c in names])<=(1 if o is train else 2)
    common = set.intersection(*(set(o) for _,o in deals))
    assert len(common)>=min(20, 2*n//5) and not common & set().union(*(set(o) for o,_ in deals))

@pytest.mark.parametrize('how', ['random','confident'])
def test_a_quiz_does_not_hang_on_the_order_of_the_rows(how):
    t = class_table()
    a,b = (pool_of(o, how, seed=2) for o in (t, t[::-1]))
    assert a.path.tolist()==b.path.tolist()

def test_one_picture_a_patient_and_the_bias_of_the_sure_ones():
    rng = np.random.default_rng(0)
    p = rng.random(400)
    t = pd.DataFrame(dict(path=[f'{i}' for i in range(400)], patient=[f'{i//4}' for i in range(400)], eye='', target=np.where(rng.random(400)<.5, 'a', 'b'), p_a=p, p_b=1-p))
    pool,sure = pool_of(t),pool_of(t, 'confident')
    assert len(pool)==100 and not pool.patient.duplicated().any() and .35<(pool.truth==pool.ai).mean()<.65
    assert (sure.truth==sure.ai).all() and not sure.patient.duplicated().any()
    with pytest.raises(DataError, match='one class of several'): pool_of(t.rename(columns=dict(p_a='pred')).drop(columns='p_b').assign(target=1., pred=1.))

def test_an_answer_counts_once_even_in_a_crowd(quiz):
    "Twelve threads send the same, others send late and early ones: each question has one answer, the first"
    who = quiz.who(quiz.join(FORM))['id']
    for n in range(8):
        q,told = quiz.at(who),[]
        def send(k):
            try: told.append(quiz.answer(who, q|dict(answer='ill' if k%2 else 'well', confidence=60)))
            except DataError: told.append(None)
        ts = [threading.Thread(target=send, args=(k,)) for k in range(12)]
        for o in ts: o.start()
        for o in ts: o.join()
        assert told==[(1,n)]*12
        with pytest.raises(DataError): quiz.answer(who, q|dict(n=n+2, answer='ill'))
    assert len(quiz.read('select * from answer'))==8 and quiz.at(who)['done']

def test_many_people_at_once_do_not_meet(quiz):
    words,errors = [quiz.join(FORM|dict(nick=f'N{k}')) for k in range(6)],[]
    def run(w):
        try: play(quiz, quiz.who(w)['id'])
        except Exception as e: errors.append(e)
    ts = [threading.Thread(target=run, args=(w,)) for w in words]
    for o in ts: o.start()
    for o in ts: o.join()
    assert not errors and len(quiz.read('select * from answer'))==48 and len(quiz.board())==6 and {(o['place'],o['best']) for o in quiz.board()}=={(1,1)}

def test_equal_scores_share_a_place(quiz):
    for k,right in enumerate([False,True,True]): play(quiz, quiz.who(quiz.join(FORM|dict(nick=f'N{k}')))['id'], right=right)
    assert [(o['place'],o['nick']) for o in quiz.board()]==[(1,'N1'),(1,'N2'),(3,'N0')]

def test_the_best_round_counts_and_the_last_is_told(quiz):
    me = quiz.who(quiz.join(FORM))
    play(quiz, me['id']); quiz.again(me); play(quiz, me['id'], right=False)
    assert [(o['best'],o['last'],o['rounds']) for o in quiz.board()]==[(1,0,2)]

def test_years_are_a_number_that_a_person_may_have(quiz):
    for o in ('','0','7','12','80'): assert quiz.who(quiz.join(FORM|dict(years=o)))['years']==int(o or 0)
    for o in ('81','100','-1','x','1.5','²'):
        with pytest.raises(DataError, match='a number from 0 to 80'): quiz.join(FORM|dict(years=o))

def test_pictures_that_cannot_be_read_are_left_out_and_told(tmp_path, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, 'ipykernel', raising=False) # which shows a bar
    for k in range(3): Image.new('RGB', (64,64)).save(tmp_path/f'{k}.png')
    (tmp_path/'1.png').write_bytes(b'no picture')
    pool = pd.DataFrame(dict(path=[f'{k}.png' for k in range(3)]))
    assert game.checked_items(pool, tmp_path).path.tolist()==['0.png','2.png'] and '1 pictures cannot be read and are left out' in capsys.readouterr().err
    assert len(game.checked_items(pool[:1], tmp_path))==1 and capsys.readouterr().err==''

@pytest.mark.skipif(os.name=='nt', reason="Windows knows no such rights")
def test_answers_of_people_are_no_file_for_everybody(quiz):
    "Whatever the umask: the rights of what sqlite writes beside it follow"
    play(quiz, quiz.who(quiz.join(FORM))['id'], stop=1)
    files = list(quiz.file.parent.glob(quiz.file.name+'*'))
    assert len(files)>1 and {o.stat().st_mode & 0o777 for o in files}=={0o600}

def test_answers_are_on_the_disk_and_the_quiz_goes_on(quiz):
    "Read from the file by another, while the first is still open"
    word = quiz.join(FORM)
    play(quiz, quiz.who(word)['id'], stop=5)
    other = Quiz(quiz.file)
    assert len(other.read('select * from answer'))==5 and other.at(other.who(word)['id'])['n']==5 and other.read('pragma synchronous')[0]['synchronous']==2
    other.close()

def test_what_is_a_secret_stays_one(quiz):
    me,you = (quiz.who(quiz.join(FORM))['id'] for _ in range(2))
    play(quiz, me, stop=6)
    assert [quiz.told_of(me, 1, k) is not None for k in range(8)]==[True]*4+[False]*4, "the test is not told before it is over"
    tokens = [o['token'] for o in quiz.read('select * from deal where participant=? order by n', me)]
    assert [quiz.picture(me, o) is not None for o in tokens]==[True]*4+[False]*2+[True]+[False], "training, and the open one"
    assert not any(quiz.picture(you, o) for o in tokens)
    play(quiz, me)
    assert all(quiz.told_of(me, 1, k) for k in range(8)) and all(quiz.picture(me, o) for o in tokens)
    assert quiz.told_of(you, 1, 0) is None

def test_rounds_end_where_eyes_end(tmp_path):
    quiz = squares(tmp_path, 4, items=20)
    me = quiz.who(quiz.join(FORM))
    play(quiz, me['id']); quiz.again(me); play(quiz, me['id'])
    with pytest.raises(DataError, match='are left'): quiz.again(me)
    assert quiz.at(me['id'])['done'] and quiz.board()[0]['rounds']==2 and len(quiz.read('select distinct item from deal'))==16
    with pytest.raises(DataError, match='a person may need 40: `n=30` is the most'): squares(tmp_path/'..', 40, items=60)
    assert game.most_dealt(30, 2)==30
    with pytest.raises(DataError, match='3 eyes of well are there, and a person may need 4'): squares(tmp_path/'..', 3, items=7)
    with pytest.raises(DataError, match='1 eyes of .* are there, and a person may need 2: ask of more patients'): squares(tmp_path/'..', 2, items=2)
    assert [game.common_of(o) for o in (1,5,20,50,100)]==[0,2,8,20,20]
    quiz.close()

@pytest.mark.parametrize('n,k', [(1,2), (3,2), (4,3), (7,3), (11,4), (50,2)])
def test_whoever_comes_is_let_in(n, k):
    "With one eye of a class less than a quiz begins with, chance turns somebody away"
    most = game.most_dealt(n, k)
    def let_in(least):
        truth,res = ['a']*least+[o for o in 'bcd'[:k-1] for _ in range(3*most)],[]
        for own in range(60):
            try: dealt_items(truth, n, seed=own%3, own=own)
            except DataError: res.append(False)
            else: res.append(True)
        return res
    assert all(let_in(most)) and (n%k==0 or not all(let_in(most-1)))

def test_what_no_quiz_can_ask_is_told_before_anything_is_drawn(tmp_path, monkeypatch):
    "And few eyes are drawn from as many patients as phantoms need"
    drawn = []
    def predictions(run, patients, seed):
        drawn.append(patients)
        raise DataError('drawn')
    monkeypatch.setattr(game, 'phantom_predictions', predictions)
    def begin(kind, n=2, **more):
        (tmp_path/'config.json').write_text(json.dumps(dict(task='age', source='phantom', classes=['a','b'], answer=dict(kind=kind))|more))
        return open_quiz(tmp_path, tmp_path/'q.db', n=n)
    for kind in ('number','multilabel','ordered'):
        with pytest.raises(DataError, match='one class of several'): begin(kind)
    for n in (0,-1):
        with pytest.raises(DataError, match=f'n={n}.*one eye at least'): begin('category', n)
    assert not drawn
    for n in (1,3,50):
        with pytest.raises(DataError, match='drawn'): begin('category', n)
    assert drawn[0]>=8 and drawn[1]>=4*game.most_dealt(3, 2) and drawn[2]>=200

def test_a_rare_class_is_drawn_until_it_suffices(tmp_path, monkeypatch):
    "`fundus quiz RUN` of a net for normal and ill phantoms ended: 34 eyes of normal are there, and a person may need 50"
    (d := tmp_path/'eyes').mkdir()
    drawn = []
    def predictions(run, patients, seed):
        drawn.append(patients)
        names = [f'{i}.png' for i in range(patients)]
        for o in names: Image.fromarray(np.arange(1024).reshape(32,32).astype(np.uint8)).save(d/o)
        ill = [i%7>0 for i in range(patients)]
        return pd.DataFrame(dict(path=names, patient=names, eye=None, target=['ill' if o else 'well' for o in ill],
                                 p_ill=[.9 if o else .1 for o in ill], p_well=[.1 if o else .9 for o in ill])),d
    monkeypatch.setattr(game, 'phantom_predictions', predictions)
    (tmp_path/'config.json').write_text(json.dumps(dict(task='anomaly', source='phantom', classes=['ill','well'], answer=dict(kind='category'))))
    quiz = open_quiz(tmp_path, tmp_path/'q.db', n=20)
    assert len(drawn)==2 and drawn[1]>1.5*drawn[0] and sum(o['truth']=='well' for o in quiz.items)>=game.most_dealt(20, 2)
    quiz.close()

def test_forgotten_is_gone_from_the_file(quiz):
    word = quiz.join(FORM|dict(nick='Rumpelstilzchen'))
    play(quiz, quiz.who(word)['id'], stop=3)
    quiz.forget(quiz.who(word)['id'])
    raw = b''.join(o.read_bytes() for o in quiz.file.parent.glob('quiz.db*'))
    assert quiz.who(word) is None and b'Rumpelstilzchen' not in raw and word.encode() not in raw

def test_what_fails_writes_nothing(quiz, monkeypatch):
    "A disk that is full at the last statement of joining leaves nobody behind"
    real = game.dealt_items
    monkeypatch.setattr(game, 'dealt_items', lambda *a, **k: (_ for _ in ()).throw(OSError(28, 'No space left on device')))
    with pytest.raises(OSError): quiz.join(FORM)
    monkeypatch.setattr(game, 'dealt_items', real)
    assert not quiz.read('select * from participant') and quiz.who(quiz.join(FORM))

def test_a_disk_without_room_is_told_and_nothing_is_left(tmp_path, monkeypatch):
    "It was an error that nobody foresaw, and a hidden file of half a quiz stayed"
    monkeypatch.setattr(game, 'SCHEMA', 'pragma max_page_count=3;'+game.SCHEMA) # SQLite's own word for a full disk
    with pytest.raises(DataError, match='cannot be written .*full.*make room'): squares(tmp_path)
    assert not [o for o in tmp_path.iterdir() if 'quiz.db' in o.name]

@pytest.mark.parametrize('kind', ['FullError','IOError','CantOpenError'])
def test_a_quiz_on_a_full_disk_is_one_all_the_same(tmp_path, quiz, monkeypatch, kind):
    "\"quiz.db is no database of a quiz (CantOpenError)\", of a sound one"
    import fastlite
    def full(file): raise type(kind, (Exception,), {})('database or disk is full')
    monkeypatch.setattr(fastlite, 'database', full)
    with pytest.raises(DataError, match='quiz.db cannot be opened .database or disk is full.: make room'): Quiz(quiz.file)

def test_files_that_are_no_quiz(tmp_path, quiz, capsys, caplog):
    (tmp_path/'text.db').write_text('x'*5000)
    with pytest.raises(DataError, match='is no database of a quiz|is not the database'): Quiz(tmp_path/'text.db')
    (tmp_path/'none.db').touch()
    for o in ('text.db','none.db'):
        assert main(['quiz-results', tmp_path/o])==1
        err = capsys.readouterr().err
        assert 'name another file' in err and '--db' not in err, "which is no option there"
    assert not caplog.records, "a line of SQLite's own stood before the sentence"
    quiz.db.execute('pragma user_version=9')
    with pytest.raises(DataError, match='another version'): Quiz(quiz.file)
    with pytest.raises(DataError, match='is no file'): Quiz(tmp_path)

def test_a_run_makes_a_quiz_and_goes_on_with_it(tmp_path, capsys):
    "Of a net of phantoms, new eyes are drawn; of other data a folder is needed; another net, and a day that is over, are told"
    q = open_quiz(RUN, tmp_path/'q.db', n=2)
    assert q.told['phantom'] and q.told['classes']==['CNV','NORMAL'] and len(q.items)>=4
    assert all((Path(q.told['root'])/o['path']).is_file() and len(json.loads(o['p']))==2 and o['sha256'] for o in q.items)
    word = q.join(FORM)
    q.close()
    open_quiz(RUN, tmp_path/'q.db', n=2).close()
    assert 'goes on' not in capsys.readouterr().err
    q = open_quiz(RUN, tmp_path/'q.db', images=tmp_path, pool='confident')
    told = capsys.readouterr().err
    assert all(o in told for o in ('n=2', 'pool=random', f"images={q.told['root']}", 'name another with')) and 'seed=' not in told
    assert q.who(word) and q.told['n']==2
    with q.writing() as do: do("update setting set value=? where key='until'", [json.dumps(str(date.today()-timedelta(1)))])
    q.close()
    with pytest.raises(DataError, match='promised to be deleted'): open_quiz(RUN, tmp_path/'q.db')
    q = squares(tmp_path, 2)
    q.close()
    with pytest.raises(DataError, match='another net'): open_quiz(RUN, tmp_path/'quiz.db')
    with pytest.raises(DataError, match='does not exist'): open_quiz(tmp_path, tmp_path/'z.db')
    with pytest.raises(DataError, match='none of the pictures'): open_quiz(RUN, tmp_path/'z.db', images=tmp_path)

def graded_run(d, threshold=.3, n=60):
    "A run folder of a net of grades, whose eyes are gray squares"
    rng = np.random.default_rng(0)
    p,y = rng.dirichlet(np.ones(5), n).round(4),rng.integers(0, 5, n)
    for i in range(n): Image.fromarray(rng.integers(0, 255, (24,24), 'uint8')).save(d/f'{i}.png')
    t = pd.DataFrame(dict(path=[f'{i}.png' for i in range(n)], patient=[f'{i}' for i in range(n)], eye='', target=y.astype(str)))
    t.assign(**{f'p_{k}':p[:,k] for k in range(5)}).to_csv(d/'predictions.csv', index=False)
    (d/'config.json').write_text(json.dumps(dict(task='dr', classes=[*'01234'], operating=dict(threshold=threshold), sha256='0'*64)))
    return y,p

def test_grades_are_asked_as_whom_to_refer(tmp_path):
    "Yes or no, with the net's own threshold, and as sure as it is of its own answer"
    y,p = graded_run(tmp_path)
    q = open_quiz(tmp_path, tmp_path/'q.db', images=tmp_path, n=4, maps=True)
    assert q.told['classes']==['no','yes'] and 'referred' in q.told['question'] and q.told['cut']==.3 and q.told['maps'] and not q.told['phantom']
    for o in q.items:
        k,yes = int(o['path'].split('.')[0]),p[int(o['path'].split('.')[0]),2:].sum()
        assert (o['truth'],o['ai'])==('yes' if y[k]>=2 else 'no', 'yes' if yes>.3 else 'no')
        assert np.isclose(game.net_sure(o, q.told['classes']), yes if yes>.3 else 1-yes, atol=1e-3)
    assert any(o['ai']=='yes' and game.net_sure(o, q.told['classes'])<.5 for o in q.items)
    who = q.who(q.join(FORM))['id']
    play(q, who)
    assert q.scored(who, 1)['right']==4
    q.close()

def test_the_folder_that_the_run_was_trained_with_is_one(tmp_path, capsys):
    "Its names may begin with the folder's own; asked again, it is still the same folder"
    (tmp_path/'imgs').mkdir()
    graded_run(tmp_path/'imgs')
    t = pd.read_csv(tmp_path/'imgs/predictions.csv')
    t.assign(path='imgs/'+t.path).to_csv(tmp_path/'imgs/predictions.csv', index=False)
    for _ in range(2):
        q = open_quiz(tmp_path/'imgs', tmp_path/'q.db', images=tmp_path/'imgs', n=4)
        assert all(q.path(o).is_file() for o in q.items) and 'goes on' not in capsys.readouterr().err
        q.close()

# --- the game of lesson 14

PARTS = 'def drawn(k)', 'def simulated_reader(', 'def asked(', 'def play('

@pytest.fixture
def lesson(monkeypatch):
    "The lesson's own cells, with ten scans; what is called with answers sits at the screen"
    monkeypatch.setenv('MPLBACKEND', 'Agg')
    page,names = code(ROOT/'nbs/lessons/14_are_you_better_than_the_ai.ipynb'),{'quick':False}
    exec('from fundus_fastai.all import *\nimport re\ndef clear_output(): pass', names)
    for o in PARTS: exec(next(s for s in page if o in s), names)
    names['plt'].switch_backend('Agg')
    ten = pd.DataFrame(dict(person=range(10), truth=['ill','well']*5))
    def say(*answers):
        left = iter(answers)
        def read(_):
            if (o := next(left, EOFError())) and isinstance(o, Exception): raise o
            return o
        monkeypatch.setattr(builtins, 'input', read)
        try: return names['play'](ten)
        finally: names['plt'].close('all')
    return say

def test_what_you_type_is_what_counts(lesson):
    "Odd answers are asked again, and nothing is taken for an answer that is none"
    t,who = lesson('i 80', 'what?', 'i', 'w 20', '80', 'w 101', 'well, 70 %', *['I100']*8)
    assert who=='you' and t.answer.tolist()==['ill','well']+['ill']*8 and t.sure.tolist()==[.8,.7]+[1.]*8
    assert t.right.tolist()==[True,True]+[True,False]*4

@pytest.mark.parametrize('answers', [(), ('',), (NotImplementedError(),), ('i 80', '')])
def test_where_nobody_plays_a_simulated_reader_does_and_it_is_said(lesson, answers):
    t,who = lesson(*answers)
    assert who=='a simulated reader of .70' and len(t)==10 and t.sure.between(.6, 1).all() and t.answer.isin(['ill','well']).all()
    assert (t.right==(t.answer==t.truth)).all() and t.equals(lesson()[0])

"The page: what it tells and when, who is let in, and a whole quiz in Chromium"
import http.client, re, socket, sys, threading, time
from urllib.parse import urlencode
import numpy as np, pytest
from contextlib import closing, contextmanager
from pathlib import Path
from PIL import Image
from starlette.testclient import TestClient
from browser import EXE, Chromium
from heard import Page
from house.shared import loaded
from quizzes import Server, field, said, squares
from fundus_fastai.cli import main
from fundus_fastai.core import EyeError, MissingPackage
from fundus_fastai.phantom.oct import phantom_oct
from fundus_fastai.quiz.game import Quiz
from fundus_fastai.quiz.page import Desk, Maps, quiz_app

FORM = dict(consent='yes', role='layman', nick='Ann')
RUN = Path(__file__).parents[1]/'run/old_run/run'

@pytest.fixture
def quiz(tmp_path):
    q = squares(tmp_path)
    yield q
    q.close()

@pytest.fixture
def ann(quiz):
    c = TestClient(quiz_app(Desk(quiz)))
    c.post('/start', data=FORM)
    return c

@pytest.mark.parametrize('gone', ['fastlite','uvicorn'])
def test_a_missing_package_is_told_before_anything_is_drawn(monkeypatch, capsys, tmp_path, gone):
    "A plain install has no fastlite"
    monkeypatch.setitem(sys.modules, gone, None)
    monkeypatch.chdir(tmp_path)
    assert main(['quiz', str(RUN)])==1 and "fundus_fastai[quiz]" in capsys.readouterr().err and not any(tmp_path.iterdir())
    if gone=='fastlite':
        (tmp_path/'q.db').write_bytes(b'')
        with pytest.raises(MissingPackage, match='fastlite'): Quiz(tmp_path/'q.db')

def test_nobody_takes_part_without_consent(quiz):
    c = TestClient(quiz_app(Desk(quiz)))
    for form in (dict(role='layman'), dict(role='layman', consent='no'), dict(consent='yes'), dict(consent='yes', role='king'), {}):
        r = c.post('/start', data=form)
        assert r.status_code==400 and [*r.cookies.values()]==['yes'] and 'role="alert"' in r.text # that cookies are kept, no word
    assert not quiz.read('select * from participant')
    for p in ('/play','/told/1/0','/forget'): assert c.get(p, follow_redirects=False).headers['location']=='/'
    assert c.post('/answer', data=dict(n=0), follow_redirects=False).headers['location']=='/' and c.get('/image/x').status_code==404

def test_who_only_looks_changes_nothing(ann, quiz):
    "HEAD, as link checkers and other pages of this computer ask without a word of their origin, had deleted a person's data"
    for o in ('/','/play','/forget'): assert ann.head(o, follow_redirects=False).status_code in (200,303)
    assert len(quiz.read('select * from participant'))==1 and ann.get('/play', follow_redirects=False).status_code==200

def test_the_truth_is_never_in_the_page_before_its_time(ann, quiz):
    "Neither words nor files nor anything that goes with the truth: the page of an ill eye is that of a well one but for its numbers"
    pages = {}
    for k in range(6):
        r = ann.get('/play')
        page = r.text
        item = quiz.items[quiz.at(quiz.read('select id from participant')[0]['id'])['item']]
        assert not any(o in page+str(r.headers) for o in (item['path'], item['patient'], 'The net', str(quiz.file.parent), 'truth'))
        plain = re.sub(r'(value|src)="[^"]*"|\d+', '', page)
        pages.setdefault((k>=3, item['truth']), set()).add(plain)
        im = ann.get(f"/image/{field(page, 'token')}")
        assert im.headers['content-type']=='image/png' and im.headers['cache-control']=='no-store' and b'tEXt' not in im.content
        reply = ann.post('/answer', data=said(page), follow_redirects=False)
        assert reply.headers['location']==(f'/told/1/{k}' if k<3 else '/play') and not reply.text
        assert ('You said ill' in ann.get(f'/told/1/{k}').text)==(k<3)
    for phase in (False,True): assert len(set().union(*(v for (p,_),v in pages.items() if p is phase)))==1
    end = ann.get('/play').text
    assert 'of 3 right' in end and 'The net: 3' in end and end.count('/image/')==3

class Looked:
    "In place of `Maps`: a map at once"
    def png(self, path): return b'\x89PNG '+path.name.encode()

def test_a_map_is_shown_after_the_answer_alone(quiz):
    "Beside what the net said in training, of the test when it is over; never before, never to somebody else, never unasked"
    desk = Desk(quiz)
    desk.maps = Looked()
    ann,bob,app = TestClient(quiz_app(desk)),TestClient(quiz_app(desk)),TestClient(quiz_app(Desk(quiz)))
    for c in (ann,bob): c.post('/start', data=FORM)
    tokens = []
    for k in range(6):
        page = ann.get('/play').text
        tokens.append(field(page, 'token'))
        assert '/map/' not in page and ann.get(f'/map/{tokens[k]}').status_code==404
        told = ann.post('/answer', data=said(page)).text
        assert (f'src="/map/{tokens[k]}"' in told)==(k<3)
        assert [ann.get(f'/map/{o}').status_code for o in tokens]==([200]*min(k+1, 3)+[404]*(k-2) if k<5 else [200]*6), k
    end = ann.get('/play').text
    assert all(f'href="/map/{o}"' in end for o in tokens[3:])
    r = ann.get(f'/map/{tokens[0]}')
    assert r.headers['content-type']=='image/png' and r.headers['cache-control']=='no-store' and 'MRN' not in str(r.headers)
    assert all(bob.get(f'/map/{o}').status_code==404 for o in tokens) and bob.get('/map/x').status_code==404
    app.cookies = ann.cookies
    assert app.get(f'/map/{tokens[0]}').status_code==404 and '/map/' not in app.get('/play').text, "a quiz without maps"

def test_what_a_screen_reader_says(tmp_path):
    "Each view has a title of its own, which is said first: whoever does not see was put on *Next* and not told whether they were right"
    with closing(squares(tmp_path, 1, items=40)) as q:
        c = TestClient(quiz_app(Desk(q)))
        views = dict(start=c.get('/').text, ask=c.post('/start', data=FORM).text)
        views['told'] = c.post('/answer', data=said(views['ask'])).text
        views['done'] = c.post('/answer', data=said(c.get('/play').text)).text
        views |= dict(sure=c.get('/forget').text, gone=c.post('/forget').text, error=c.get('/x').text)
        pages = {k:Page(v) for k,v in views.items()}
        assert {k:o.faults for k,o in pages.items() if o.faults}=={}
        titles = {k:o.title.removeprefix('PHANTOM: ') for k,o in pages.items()}
        assert len({*titles.values()})==len(titles) and titles['ask']=='1 of 1: Is this eye normal?'
        right = field(views['ask'], 'token') and re.search('<h1 class="(.*?)">(.*?)</h1>', views['told'])
        assert titles['told']==right[2] and right[2].startswith(dict(right='Right. ', wrong='Not right. ')[right[1]]+'It is: ')
        assert ' of 1 right' in titles['done']

def test_where_the_net_looked(tmp_path):
    "A map of the run's own net, and a file that it cannot read"
    Image.fromarray(phantom_oct('CNV', size=(64,64)).image).save(tmp_path/'a.png')
    (tmp_path/'b.png').write_bytes(b'no picture')
    maps = Maps(RUN)
    assert maps.png(tmp_path/'a.png')[:4]==b'\x89PNG' and maps.png.cache_info().currsize==1
    with pytest.raises(EyeError): maps.png(tmp_path/'b.png')

def test_first_letters_are_keys_where_no_two_are_alike(tmp_path):
    for names,keys in ((('no','yes'), 'ny'), (('DME','DRUSEN'), ''), (('1','2'), '')):
        d = tmp_path/names[0]
        d.mkdir()
        quiz = squares(d, names=names)
        c = TestClient(quiz_app(Desk(quiz)))
        c.post('/start', data=FORM)
        assert re.findall('data-letter="(.)"', c.get('/play').text)==list(keys)
        quiz.close()

def test_two_quizzes_in_one_browser_and_somebody_else(quiz, tmp_path):
    "Cookies know no ports: each quiz has one of its own, and an earlier one keeps its own name; the next person begins, and nobody's answers go"
    (tmp_path/'b').mkdir(); (tmp_path/'c').mkdir()
    other,old = squares(tmp_path/'b'),squares(tmp_path/'c')
    del old.told['id']
    every = ann,*more = [TestClient(quiz_app(Desk(o))) for o in (quiz,other,old)]
    for c in every:
        c.post('/start', data=FORM)
        for o in every: o.cookies.update(c.cookies)
    assert len(ann.cookies)==3 and 'quiz' in ann.cookies
    for c in every: assert c.get('/play', follow_redirects=False).status_code==200
    while not (q := quiz.at(quiz.read('select id from participant')[0]['id']))['done']: ann.post('/answer', data=said(ann.get('/play').text))
    assert 'action="/leave"' in ann.get('/play').text and 'action="/leave"' not in more[0].get('/play').text
    assert 'data-view="start"' in ann.post('/leave').text and 'data-view="start"' in ann.get('/play').text
    ann.post('/start', data=FORM|dict(nick='Bob'))
    assert len(quiz.read('select * from answer'))==6 and [o['nick'] for o in quiz.read('select * from participant')]==['Ann','Bob']
    assert more[0].get('/play', follow_redirects=False).status_code==200
    for o in (other,old): o.close()

@pytest.mark.parametrize('k', range(2, 10))
def test_everybody_can_be_sure(tmp_path, k):
    "The slider ends at 100 %, and begins at a guess"
    quiz = squares(tmp_path, names='abcdefghi'[:k], items=60)
    c = TestClient(quiz_app(Desk(quiz)))
    c.post('/start', data=FORM)
    low,high,step = (int(re.search(f' {o}="(\\d+)"', c.get('/play').text.split('id="sure"')[1])[1]) for o in ('min','max','step'))
    assert low==round(100/k) and high==100 and (high-low)%step==0
    quiz.close()

def test_late_early_and_odd_answers(ann, quiz):
    page = ann.get('/play').text
    ann.post('/answer', data=said(page, answer='well'))
    assert 'You said well' in ann.post('/answer', data=said(page, answer='ill')).text
    now = ann.get('/play').text
    for odd in (dict(n='2'), dict(n='x'), dict(token='x'), dict(answer='cat'), dict(answer=''), dict(confidence='101'), dict(confidence='-1'), dict(round='7'), dict(n='-1')):
        r = ann.post('/answer', data=said(now)|odd)
        assert r.status_code==400 and 'role="alert"' in r.text, odd
    assert ann.post('/answer', data=said(now)|dict(more='x'*20_000)).status_code==413
    assert ann.post('/answer', content=(b'x'*9 for _ in range(3))).status_code==413, 'in chunks, it might never end'
    assert len(quiz.read('select * from answer'))==1
    assert ann.get('/told/1/1', follow_redirects=False).headers['location']=='/play' and ann.get('/told/9/9', follow_redirects=False).status_code==303
    for n in ('9'*20, '9'*5000):
        for p in (f'/told/{n}/1', f'/told/1/{n}'): assert ann.get(p).status_code==404, "no database holds such a number"
        assert ann.post('/answer', data=said(now)|dict(round=n)).status_code==400
        assert TestClient(ann.app).post('/start', data=FORM|dict(years=n)).status_code==400
    for p in ('/x', '/image/../quiz.db', '/templates/quiz.html.j2', '/quiz.db', '/told/a/b'): assert ann.get(p).status_code in (404,303)
    assert ann.post('/again', follow_redirects=True).status_code==200 and quiz.at(quiz.read('select id from participant')[0]['id'])['round']==1

def test_only_this_computer_and_no_other_site(quiz):
    c = TestClient(quiz_app(Desk(quiz, 80)), base_url='http://127.0.0.1:80')
    ok = {'Host':'127.0.0.1:80'}
    assert c.get('/', headers=ok).status_code==200
    for h in ({'Host':'evil.example'}, ok|{'Origin':'https://evil.example'}, ok|{'Origin':'null'}, {'Host':'127.0.0.1:81'}):
        assert c.post('/start', data=FORM, headers=h).status_code==403
    r = c.post('/start', data=FORM, headers=ok|{'Origin':'http://127.0.0.1:80'}, follow_redirects=False)
    assert all(o in r.headers['set-cookie'] for o in ('HttpOnly','SameSite=strict')) and "default-src 'none'" in r.headers['content-security-policy']
    assert len(quiz.read('select * from participant'))==1

def test_what_people_write_is_text_and_a_crowd_is_slowed(quiz):
    app = quiz_app(Desk(quiz, per_minute=3))
    for k in range(5):
        r = TestClient(app).post('/start', data=FORM|dict(nick='<script>alert(1)</script>', years='3'))
        assert r.status_code==(200 if k<3 else 429)
    assert len(quiz.read('select * from participant'))==3
    ann = TestClient(app)
    who = quiz.read('select * from participant')[0]['id']
    while not (q := quiz.at(who))['done']: quiz.answer(who, q|dict(answer='ill', confidence=50))
    page = ann.get('/').text
    assert '&lt;script&gt;' in page and '<script>alert' not in page and 'class="phantom"' in page

def test_the_page_fetches_nothing_from_elsewhere(ann):
    for p in ('/', '/play', '/quiz.js', '/quiz.css'): assert not re.search(r'https?://|//[a-z]|@import|url\(', ann.get(p).text.replace('// ', ''))

def test_the_page_is_up_without_torch():
    "A quiz that goes on starts in a second or two"
    assert not loaded('import fundus_fastai.quiz.page') & {'torch','fastai','timm','statsmodels'}

def test_mistakes_are_a_sentence(quiz, tmp_path, capsys):
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0)); s.listen()
        for args,says in ((['quiz',RUN,'--port',s.getsockname()[1]], 'cannot be used'), (['quiz',RUN,'--port',99999], '65535'), (['quiz',tmp_path], 'no finished model'),
                          (['quiz-results',quiz.file,'--out',tmp_path/'o'], 'holds no answers yet'), (['quiz-results',tmp_path/'no.db'], 'is no file')):
            assert main([args[0], args[1], *args[2:], *(['--db',tmp_path/'n.db'] if args[0]=='quiz' else [])])==1
            err = capsys.readouterr().err
            assert says in err and 'Traceback' not in err
    assert not (tmp_path/'o').exists() and not (tmp_path/'n.db').exists()

def test_killed_in_the_middle_nothing_is_lost(tmp_path):
    "kill -9 while answers come: each that was acknowledged is in the file, and the quiz goes on"
    squares(tmp_path, 20, items=100).close()
    done = []
    with Server(tmp_path/'quiz.db') as s:
        def ask(method, path, body=None, cookie=''):
            c = http.client.HTTPConnection('127.0.0.1', s.port, timeout=20)
            c.request(method, path, body, {'Cookie':cookie, 'Content-Type':'application/x-www-form-urlencoded'})
            r = c.getresponse()
            return r.read().decode(),r.headers
        cookie = ask('POST', '/start', urlencode(FORM))[1]['set-cookie'].split(';')[0]
        def run():
            try:
                for k in range(40):
                    ask('POST', '/answer', urlencode(said(ask('GET', '/play', cookie=cookie)[0])), cookie)
                    done.append(k)
            except (OSError, http.client.HTTPException, TypeError): return # killed
        t = threading.Thread(target=run)
        t.start()
        while len(done)<12: time.sleep(.01)
        s.kill()
        t.join()
    q = Quiz(tmp_path/'quiz.db')
    kept = q.read('select n from answer order by n')
    assert len(done)<=len(kept)<=len(done)+1<40 and [o['n'] for o in kept]==list(range(len(kept)))
    q.close()
    with Server(tmp_path/'quiz.db') as s: assert f"name=\"n\" value=\"{len(kept)}\"" in ask('GET', '/play', cookie=cookie)[0]

def test_without_cookies_nobody_is_taken_in_silence(quiz):
    "The form came again without a word, and each try was one more who had not finished"
    c = TestClient(quiz_app(Desk(quiz)))
    c.get('/')
    form = FORM|dict(opened=field(c.get('/').text, 'opened'))
    c.cookies.clear()
    r = c.post('/start', data=form)
    assert r.status_code==400 and 'keeps no cookie' in r.text and not quiz.read('select * from participant')
    assert 'name="token"' in c.post('/start', data=form).text and len(quiz.read('select * from participant'))==1 # now they are allowed

def test_what_is_not_certain_is_not_100_percent(quiz):
    desk = Desk(quiz)
    assert [desk.sure(dict(ai='well', p=f'[{1-o},{o}]')) for o in (.996,.99999,1)]==['99.6 %','over 99.9 %','100.0 %']

# --- in Chromium

chromium = pytest.mark.skipif(EXE is None, reason="Chromium is not installed")

def begin(page, nick):
    page.wait("document.body.dataset.view=='start'")
    page.run(f"document.querySelector('[name=role]').value='layman'; document.querySelector('[name=nick]').value='{nick}'")
    page.run("document.getElementById('go').click()")
    assert page.run("document.body.dataset.view")=='start', "without the box nobody goes on"
    page.run("document.getElementById('consent').click(); document.getElementById('go').click()")
    page.wait("document.body.dataset.view=='ask'")

def shown(page, n): page.wait(f"document.body.dataset.view=='ask' && document.querySelector('[name=n]').value=='{n}' && document.body.dataset.seen=='yes'")

def press(page, *keys):
    page.wait("document.readyState=='complete'")
    for o in keys: page.key(o)

@contextmanager
def at_the_first(tmp_path):
    "A quiz of squares that runs, and a browser at its first question"
    squares(tmp_path, 2, items=40).close()
    with Server(tmp_path/'quiz.db') as s, Chromium(tmp_path/'a') as one:
        p = one.page(s.url)
        begin(p, 'Ann'); shown(p, 0)
        yield s,p

@pytest.mark.slow
@chromium
def test_a_link_is_followed_by_keyboard(tmp_path):
    "Enter on *Delete my data* saved the answer that was chosen, and nobody could delete by keyboard"
    squares(tmp_path, 2, items=40, names=('Proliferative_diabetic_retinopathy','well')).close()
    with Server(tmp_path/'quiz.db') as s, Chromium(tmp_path/'a') as one:
        p = one.page(s.url, size=(320,700))
        begin(p, 'Ann'); shown(p, 0)
        press(p, '1')
        p.run("document.getElementById('delete').focus()")
        press(p, 'Enter')
        p.wait("document.body.dataset.view=='sure'")
        p.go(f'{s.url}/play'); shown(p, 0)
        def wide(): return p.wait("document.readyState=='complete' && document.documentElement.scrollWidth") # with its style
        for n in range(4):
            shown(p, n)
            assert wide()<=320, "a class of one long word"
            press(p, '2', 'Enter')
            if n<2:
                p.wait("document.body.dataset.view=='told'")
                assert wide()<=320, "the title of a phone was wider than it"
                press(p, 'Enter')
        p.wait("document.body.dataset.view=='done'")
        assert wide()<=320, "the table of a phone was wider than it"
        def lines(what): return p.run(f"(o => o.getClientRects().length)((r => (r.selectNodeContents([...document.querySelectorAll('td,th')].find(o => o.textContent.trim()=='{what}')), r))(document.createRange()))")
        assert lines('place')==1, "words were cut: pla ce, DRUS EN"

@chromium
def test_digits_and_letters_can_be_switched_off(tmp_path):
    "Whoever dictates types them by the way (WCAG 2.1.4); the browser remembers it"
    with at_the_first(tmp_path) as (s,p):
        assert p.run("getComputedStyle(sure).colorScheme")=='dark', "WebKit draws the boxes of a light page: dark on dark"
        def chosen(): return p.run("[...document.querySelectorAll('[name=answer]')].findIndex(o => o.checked)")
        p.run("document.getElementById('keys').click()")
        press(p, '1'); assert chosen()==-1
        p.go(f'{s.url}/play'); shown(p, 0)
        press(p, '1'); assert chosen()==-1, "it was forgotten"
        at = p.run("document.getElementById('sure').value")
        press(p, 'ArrowLeft'); assert p.run("document.getElementById('sure').value")!=at, "arrows are no letters"
        p.run("document.getElementById('keys').click()")
        press(p, '2'); assert chosen()==1

@pytest.mark.slow
@chromium
def test_nobody_answers_a_picture_that_is_not_shown(tmp_path):
    "Its file went after the quiz was begun: the answer had counted"
    with at_the_first(tmp_path) as (s,p):
        for o in tmp_path.glob('MRN*.png'): o.rename(o.with_suffix('.gone'))
        p.go(f'{s.url}/play')
        p.wait("(document.getElementById('eye') || {}).alt?.includes('cannot be shown') || ''")
        press(p, '1', 'Enter')
        p.run("document.getElementById('go').click()")
        time.sleep(1)
        assert p.run("document.body.dataset.view")=='ask'
        for o in tmp_path.glob('MRN*.gone'): o.rename(o.with_suffix('.png'))
        p.go(f'{s.url}/play'); shown(p, 0)
        press(p, '1', 'Enter')
        p.wait("document.body.dataset.view=='told'")

@pytest.mark.slow
@chromium
def test_a_picture_that_is_still_on_its_way_is_not_judged(tmp_path):
    "On a slow net an answer counted before anything was seen"
    squares(tmp_path, 2, items=40).close()
    with Server(tmp_path/'quiz.db') as s, Chromium(tmp_path/'a') as one:
        p = one.page(s.url)
        p('Fetch.enable', patterns=[dict(urlPattern='*/image/*')])
        begin(p, 'Ann')
        p.wait("typeof form=='object' && !!form")
        def held(): return [o for o in one.events if o.get('method')=='Fetch.requestPaused']
        while not held(): time.sleep(.05)
        for o in ('1','Enter'): p.key(o)
        p.run("document.getElementById('go').click()")
        time.sleep(.5)
        assert p.run("document.body.dataset.view")=='ask' and p.run("document.querySelector('[name=answer]').checked")
        p('Fetch.continueRequest', requestId=held()[0]['params']['requestId']); shown(p, 0)
        p('Fetch.disable')
        p.key('Enter')
        p.wait("document.body.dataset.view=='told'")

@pytest.mark.slow
@chromium
def test_names_for_a_screen_reader_and_a_page_that_was_stopped(tmp_path):
    "Classes belong to their question; whoever stops a slow page presses Save once more"
    with at_the_first(tmp_path) as (s,p):
        p('Accessibility.enable')
        named = {o['role']['value']:o.get('name', {}).get('value') for o in p('Accessibility.getFullAXTree')['nodes'] if 'role' in o}
        assert named['radiogroup']=='Is this eye normal?' and named['progressbar']=='Eyes answered'
        how = dict(offline=False, downloadThroughput=-1, uploadThroughput=-1)
        p('Network.emulateNetworkConditions', latency=5000, **how)
        press(p, '1', 'Enter')
        time.sleep(.5)
        p('Page.stopLoading')
        p('Network.emulateNetworkConditions', latency=0, **how)
        time.sleep(2)
        press(p, 'Enter')
        p.wait("document.body.dataset.view=='told'", 10)
        assert 'You said ill' in p.run("document.body.innerText")

@pytest.mark.slow
@chromium
def test_a_whole_quiz_in_chromium(tmp_path):
    "By keyboard; reload, double click and back; two people at once; the server killed in the middle; nobody else is asked"
    squares(tmp_path, 4, items=80).close()
    file = tmp_path/'quiz.db'
    with Server(file) as s, Chromium(tmp_path/'a') as one, Chromium(tmp_path/'b') as two:
        port = s.port
        ann,bob = (o.page(s.url) for o in (one,two))
        begin(ann, 'Ann'); begin(bob, 'Bob')
        shown(ann, 0); shown(bob, 0)
        press(ann, 'Enter')
        assert ann.run("document.body.dataset.view")=='ask', "no answer, no next picture"
        press(ann, '1', 'ArrowRight', 'ArrowRight')
        assert ann.run("document.querySelector('[name=answer]:checked').value")=='ill' and ann.run("document.getElementById('sure').value")==str(75+10)
        press(ann, 'Enter')
        ann.wait("document.body.dataset.view=='told'")
        assert 'You said ill (85 %)' in ann.run("document.body.innerText")
        ann.run("location.reload()") # a reload repeats nothing
        ann.wait("document.body.dataset.view=='told' && document.readyState=='complete'")
        press(ann, 'Enter'); shown(ann, 1)
        ann.run("document.querySelector('[data-key=\"2\"]').click(); const b = document.getElementById('go'); b.click(); b.click()") # double click
        ann.wait("document.body.dataset.view=='told'")
        press(ann, 'Enter'); shown(ann, 2)
        ann.run("history.back()"); time.sleep(.5) # back: what is open, or what was told; never an old question to be answered anew
        ann.go(f'{s.url}/play'); shown(ann, 2)
        q = Quiz(file)
        assert [o['answer'] for o in q.read('select a.* from answer a join participant p on p.id=a.participant where nick=? order by n', 'Ann')]==['ill','well']
        assert not q.read('select a.* from answer a join participant p on p.id=a.participant where nick=?', 'Bob')
        q.close()
        s.kill()
        press(ann, '1', 'Enter'); time.sleep(.5) # nobody is there
        with Server(file, port) as s:
            ann.go(f'{s.url}/play'); shown(ann, 2)
            for page,start in ((ann,2),(bob,0)):
                page.go(f'{s.url}/play')
                for n in range(start, 8):
                    shown(page, n)
                    press(page, '1' if page is ann else '2', 'Enter')
                    if n<4:
                        page.wait("document.body.dataset.view=='told'")
                        press(page, 'Enter')
                page.wait("document.body.dataset.view=='done'")
            text = ann.run("document.body.innerText")
            assert 'of 4 right' in text and 'The net: 4' in text and 'Bob' not in text and ann.run("document.querySelectorAll('img.small').length")==4
            assert 'Ann' in bob.run("document.getElementById('board').innerText")
            ann.run("document.getElementById('again').click()"); shown(ann, 0)
            bob.run("document.getElementById('delete').click()"); bob.wait("document.body.dataset.view=='sure'")
            bob.run("document.getElementById('forget').click()"); bob.wait("document.body.dataset.view=='gone'")
        quiz = Quiz(file)
        t = quiz.read('select p.nick, a.* from answer a join participant p on p.id=a.participant order by a.n')
        assert [o['nick'] for o in t]==['Ann']*8 and [o['n'] for o in t]==list(range(8)) and all(0<=o['ms']<60_000 for o in t)
        quiz.close()
    own = ('127.0.0.1','clients.google','clients2.google','update.googleapis','accounts.google','redirector.gvt1','www.google','optimizationguide','content-autofill','safebrowsing')
    for o in (one,two): assert not [u for u in o.asked() if u.startswith('http') and not any(k in u for k in own)]

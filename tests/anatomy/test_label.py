"Labels: the order, the answers on the disk, who is let in, and the page itself in Chromium"
import errno, http.client, json, math, os, shutil, threading, time
import cv2, numpy as np, pandas as pd, pytest
from contextlib import contextmanager
from browser import EXE, Chromium
from heard import Page
from fundus_fastai.anatomy import label
from fundus_fastai.anatomy.label import ANSWER, Labels, label_error, label_server, order_of
from fundus_fastai.cli import main
from fundus_fastai.core import DataError
from fundus_fastai.phantom.fundus import phantom_fundus, save_fundus
from fundus_fastai.phantom.oct import phantom_oct

DISC,FOVEA = dict(x=60.5, y=40, w=16, h=18, turn=5),dict(x=30, y=44.25)

@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    d = tmp_path_factory.mktemp('photos')
    for k in range(5):
        o = phantom_fundus([], 4, k, camera='round', size=96)
        save_fundus(o, d/f'eye_{k}.jpg', d/f'eye_{k}.npz')
    return d

@pytest.fixture
def desk(photos, tmp_path):
    "A running page"
    server = label_server(Labels([photos], tmp_path/'labels.csv', 'me', share=.2), 0)
    thread = threading.Thread(target=server.serve_forever, args=(.05,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()

def ask(desk, path, body=None, raw=None, **headers):
    c = http.client.HTTPConnection('127.0.0.1', desk.server_port, timeout=20)
    data = raw if raw is not None else json.dumps(body) if body is not None else None
    c.request('POST' if data is not None else 'GET', path, data, headers)
    r = c.getresponse()
    text = r.read()
    return r.status,json.loads(text) if 'json' in r.getheader('Content-Type') else text,r.headers

def mine(desk): return {'X-Token':desk.token}
def answer(desk, at, disc=DISC, fovea=FOVEA, **headers): return ask(desk, '/answer', dict(at=at, disc=disc, fovea=fovea), **mine(desk)|headers)

# --- order

@pytest.mark.parametrize('n', [1, 2, 3, 9, 10, 40, 200])
def test_order(n):
    o = order_of(n, .1, 3)
    assert sorted(set(o))==[*range(n)] and len(o)==n+round(.1*n) and o==order_of(n, .1, 3)
    for k in {k for k in o if o.count(k)>1}: assert o.count(k)==2 and o[::-1].index(k)<len(o)-2*n//3, "the second time is late"

@pytest.mark.parametrize('n,share', [(10,.5),(10,2/3),(10,.9),(10,1),(3,1),(1,1),(40,.8)])
def test_as_many_come_twice_as_were_asked_for(n, share):
    o = order_of(n, share, 3)
    assert sorted(set(o))==[*range(n)] and len(o)==n+round(share*n) and max(map(o.count, o))<=2
    assert all(o[::-1].index(k)<len(o)-2*n//3 for k in o if o.count(k)>1)

def test_repeats_cannot_be_told(desk):
    "Neither the page nor a picture's address or headers tell a file or a repeat"
    page = ask(desk, '/')[1].decode()
    image = ask(desk, '/image/0', **mine(desk))
    assert 'eye_' not in page and set(ask(desk, '/next', **mine(desk))[1])=={'at','of','done'}
    assert not any('eye_' in v for v in image[2].values())

# --- answers

def test_answers_are_on_the_disk_before_the_next_picture(desk, photos):
    work,out = desk.work,desk.work.out
    for k in range(6):
        state = answer(desk, k)[1]
        t = pd.read_csv(out)
        assert list(t)==ANSWER and len(t)==k+1==state['at'] and t.path[k]==work.path(k)
    assert state['done'] and t.repeat.sum()==1 and set(t.rater)=={'me'}
    assert t.disc_x[0]==60.5 and t.fovea_y[0]==44.25 and t.disc_turn[0]==5
    assert ask(desk, '/image/6', **mine(desk))[0]==404

def test_sent_twice_written_once(desk):
    answer(desk, 0)
    assert answer(desk, 0)[1]['at']==1 and len(pd.read_csv(desk.work.out))==1
    threads = [threading.Thread(target=answer, args=(desk, 1)) for _ in range(6)]
    for o in threads: o.start()
    for o in threads: o.join()
    assert len(pd.read_csv(desk.work.out))==2

def test_what_cannot_be_seen_is_missing(desk):
    answer(desk, 0, None, FOVEA)
    t = pd.read_csv(desk.work.out)
    assert t[['disc_x','disc_h']].isna().all(axis=None) and t.fovea_x[0]==30

@pytest.mark.parametrize('body', [dict(at=3), dict(at=-1), dict(at=True), dict(at='0'), {}, [], 7, dict(at=0, disc=dict(x=1)), dict(at=0, disc=[1,2,3,4]),
                                  dict(at=0, disc=DISC|dict(w='=cmd()')), dict(at=0, fovea=dict(x=math.inf, y=1)), dict(at=0, fovea=dict(x=True, y=1))])
def test_odd_answers_write_nothing(desk, body):
    status,o,_ = ask(desk, '/answer', body, **mine(desk))
    assert status==400 and o['error'] and not desk.work.out.exists()

def test_it_goes_on_where_it_was(photos, tmp_path):
    out = tmp_path/'l.csv'
    work = Labels([photos], out, 'a')
    work.answer(dict(at=0, disc=DISC, fovea=FOVEA))
    assert Labels([photos], out, 'a').at==1 and Labels([photos], out, 'b').at==0
    Labels([photos], out, 'b').answer(dict(at=0, disc=DISC, fovea=None))
    assert Labels([photos], out, 'a').at==1==Labels([photos], out, 'b').at
    with pytest.raises(DataError, match='another seed'): Labels([photos], out, 'a', seed=8)
    (tmp_path/'other.csv').write_text('a,b\n1,2\n')
    with pytest.raises(DataError, match='something else'): Labels([photos], tmp_path/'other.csv')
    with pytest.raises(DataError, match='is a folder'): Labels([photos], tmp_path)

# --- who is let in

def test_nobody_else_is_let_in(desk):
    "Another site's page, a name that points here, no word, a wrong word, a path that leads elsewhere"
    me = mine(desk)
    refused = [ask(desk, '/next'), ask(desk, '/next', **{'X-Token':'wrong'}), ask(desk, '/next', **{'X-Token':'\xe9'}),
               ask(desk, '/', Host='evil.example'), ask(desk, '/next', **me, Host=f'evil.example:{desk.server_port}'),
               ask(desk, '/answer', dict(at=0, disc=DISC, fovea=FOVEA)), answer(desk, 0, Origin='https://evil.example'),
               answer(desk, 0, Origin='null'), answer(desk, 0, Origin='http://127.0.0.1:1')]
    assert [o[0] for o in refused]==[403]*9 and all(o[1]['error'] for o in refused) and not desk.work.out.exists()
    for path in ('/image/1', '/image/-1', '/image/../../../etc/hostname', '/image/%2e%2e/x', '/etc/hostname', '/labels.csv', '/image/0/../1', '//x'):
        status,o,_ = ask(desk, path, **me)
        assert status==404 and 'no such thing' in o['error'], path
    assert ask(desk, '/image/0', raw='x'*20_000, **me)[0]==400
    assert ask(desk, '/answer', raw='['*9000, **me)[0]==400
    assert ask(desk, '/answer', raw='x', **me, **{'Content-Length':'9'*5000})[0]==400
    assert answer(desk, 0, Origin=f'http://127.0.0.1:{desk.server_port}')[0]==200

@pytest.mark.skipif(not os.path.exists('/proc/net/tcp'), reason="only Linux tells whose program asks")
def test_another_account_is_not_let_in(desk, monkeypatch):
    "On Linux: neither its page nor its answers, though it knows the word; but root's page, which is in a container, and root, as which WSL asks, are"
    def posted(me, asks=os.geteuid()):
        "What the server of the account `me` replies to one of the account `asks`"
        monkeypatch.undo()
        c = http.client.HTTPConnection('127.0.0.1', desk.server_port, timeout=20)
        if asks!=os.geteuid(): os.seteuid(asks)
        try: c.connect() # a connection is of who opened it
        finally:
            if os.getuid()!=os.geteuid(): os.seteuid(os.getuid())
        monkeypatch.setattr(os, 'geteuid', lambda: me)
        c.request('POST', '/answer', json.dumps(dict(at=0, disc=DISC, fovea=FOVEA)), mine(desk))
        r = c.getresponse()
        return r.status,json.loads(r.read())
    asks = 65534 if os.getuid()==0 else os.getuid()
    status,told = posted(12345, asks)
    assert status==403 and "another account's" in told['error'] and not desk.work.out.exists()
    if os.getuid()==0: assert posted(12345)[0]==200
    assert posted(0, asks)[0]==posted(asks, asks)[0]==200

def test_only_this_computer(desk):
    assert desk.server_address[0]=='127.0.0.1'
    head = ask(desk, '/')[2]
    assert "default-src 'none'" in head['Content-Security-Policy'] and head['X-Frame-Options']=='DENY' and not head.get('Access-Control-Allow-Origin')

def test_the_page_has_a_title_a_main_and_a_heading(desk): assert Page(ask(desk, '/')[1].decode()).faults==[]

def test_the_page_asks_nobody_else(desk):
    page = ask(desk, '/')[1].decode()
    assert 'http' not in page.replace('127.0.0.1', '') and 'src="' not in page and 'href' not in page and 'not a medical device' in page.lower()

def test_mistakes_are_a_sentence(photos, tmp_path, capsys, desk):
    for args,says in (([tmp_path/'nothing'], 'nothing'), ([photos, '--port', desk.server_port], 'cannot be used'), ([photos, '--port', 99999], '65535')):
        assert main(['label', *args, '--out', tmp_path/'x.csv'])==1
        err = capsys.readouterr().err
        assert says in err and 'Traceback' not in err

# --- the rater's own error

@pytest.mark.parametrize('repeats', ['nan','5','-1'])
def test_repeats_are_a_share(photos, tmp_path, capsys, repeats):
    assert main(['label', photos, '--out', tmp_path/'t.csv', '--repeats', repeats])==1
    assert '--repeats is a share of the pictures' in capsys.readouterr().err

def test_own_error(tmp_path):
    rows = [dict(dict.fromkeys(ANSWER, 0), path=f'{k}', disc_x=50+10*r, disc_y=50, disc_w=20, disc_h=20, fovea_x=10, fovea_y=5+4*r, rater='a', repeat=r)
            for k in range(6) for r in (0,1)]
    pd.DataFrame(rows, columns=ANSWER).to_csv(tmp_path/'l.csv', index=False)
    t = label_error(tmp_path/'l.csv').set_index('what')
    assert t.value['disc, in its diameters']==.5 and np.isclose(t.value['fovea, in disc diameters'], .2) and (t.pictures==6).all()
    assert label_error(tmp_path/'l.csv').rater.unique().tolist()==['a']

def test_raters_are_told_apart_as_they_are_written(tmp_path, photos):
    "'1' and '01' are two, 'NA' and '' are raters as well; a disc that was not marked is no number"
    for rater,off in (('1',0),('01',5),('NA',1),('',3)):
        work = Labels([photos], tmp_path/'l.csv', rater, share=1)
        while not work.state['done']:
            x = 50+off*(work.at>=len(work.files))
            work.answer(dict(at=work.at, disc=None if work.order[work.at]==0 else dict(DISC, x=x), fovea=FOVEA))
    t = label_error(tmp_path/'l.csv')
    assert sorted(t.rater.unique())==['','01','1','NA'] and (t.groupby('rater').pictures.max()==len(work.files)-1).all()
    t = t[t.what=='disc, in its diameters'].set_index('rater').value
    assert t['1']==0<t['NA']<t['']<t['01']

# --- in Chromium

@pytest.fixture
def browser():
    "Headless Chromium; tests are skipped where it, its driver or selenium is not there"
    selenium = pytest.importorskip('selenium', reason="selenium is not installed")
    from selenium import webdriver
    where = [shutil.which(o) for o in ('chromium','chromedriver')]
    if not all(where): pytest.skip("Chromium and its driver are not installed")
    o = webdriver.ChromeOptions()
    o.binary_location = where[0]
    for k in ('--headless=new','--no-sandbox','--disable-gpu','--disable-dev-shm-usage','--window-size=900,800'): o.add_argument(k)
    o.set_capability('goog:loggingPrefs', {'browser':'ALL'})
    driver = webdriver.Chrome(options=o, service=webdriver.ChromeService(where[1]))
    yield driver
    driver.quit()

def until(f, seconds=30):
    end = time.time()+seconds
    while time.time()<end:
        if f(): return
        time.sleep(.05)
    raise AssertionError(f"not within {seconds} s")

def test_page_in_chromium(desk, browser):
    "Mouse, keys, reload, and the last picture"
    from selenium.webdriver import ActionChains, Keys
    work = desk.work
    def shown(k): until(lambda: browser.execute_script("return document.body.dataset.at")==str(k))
    def press(*keys):
        for o in keys: ActionChains(browser).send_keys(o).perform()
    browser.get(f'http://127.0.0.1:{desk.server_port}/')
    shown(0)
    k = browser.execute_script("return k")
    eye = browser.find_element('id', 'eye')
    def at(x, y): return round((x+.5)*k-eye.size['width']/2),round((y+.5)*k-eye.size['height']/2)
    ActionChains(browser).move_to_element_with_offset(eye, *at(50, 40)).click_and_hold().move_to_element_with_offset(eye, *at(70, 40)).release().perform()
    press(Keys.ENTER)
    until(lambda: 'fovea' in browser.find_element('id', 'say').text)
    assert work.at==0, "without a fovea nothing is saved"
    press('f')
    ActionChains(browser).move_to_element_with_offset(eye, *at(30, 44)).click().perform()
    press('h', Keys.ENTER)
    shown(1)
    t = pd.read_csv(work.out)
    assert np.allclose(t[['disc_x','disc_y','disc_w','disc_h','fovea_x','fovea_y']].iloc[0], [60,40,20,21,30,44], atol=.6), t.iloc[0].to_dict()
    browser.refresh()
    shown(1)
    press(Keys.ARROW_RIGHT, 'x', Keys.ARROW_UP, Keys.ENTER) # a disc begun, then not to be seen; a fovea by keys
    shown(2)
    t = pd.read_csv(work.out)
    assert np.isnan(t.disc_x[1]) and np.allclose(t.fovea_y[1], 47)
    for n in range(2, 6):
        press('x', 'x', Keys.ENTER)
        until(lambda: work.at==n+1)
        if n<5: shown(n+1)
    until(lambda: 'All 6 are done' in browser.find_element('id', 'count').text)
    assert len(pd.read_csv(work.out))==6
    assert not [o for o in browser.get_log('browser') if o['level']=='SEVERE' and 'favicon' not in o['message']]

@contextmanager
def at_the_first(desk, home):
    "The page in a browser, with the first picture on it"
    with Chromium(home) as b:
        p = b.page(f'http://127.0.0.1:{desk.server_port}/')
        p.wait("document.body.dataset.at=='0'")
        yield p

@pytest.mark.skipif(not EXE, reason="Chromium is not installed")
def test_nothing_can_be_marked_before_its_picture_is_there(desk, tmp_path, monkeypatch):
    "While the next photograph is on its way, or cannot be read, the last one is gone, and keys mark nothing"
    go,read = threading.Event(),label.read_image
    def slow(path):
        if desk.work.at: go.wait(20)
        if desk.work.at>1: raise DataError('broken')
        return read(path)
    monkeypatch.setattr(label, 'read_image', slow)
    with at_the_first(desk, tmp_path) as p:
        def press(*keys):
            for o in keys: p.key(o)
        press('x', 'x', 'Enter')
        p.wait("$('count').textContent.startsWith('2 of')")
        press('ArrowLeft')
        assert p.run("[cv.width,cv.height,disc]")==[1,1,None]
        press('x', 'x', 'Enter')
        assert p.run("$('say').textContent")=='The picture is not here yet.' and desk.work.at==1 # nobody says of it that nothing can be seen
        press('u')
        go.set()
        p.wait("document.body.dataset.at=='1' && cv.width>1")
        press('x', 'x', 'Enter')
        p.wait("$('say').textContent.includes('cannot be shown')")
        assert p.run("[cv.width,disc]")==[1,None]
        press('x', 'x', 'Enter')
        until(lambda: desk.work.at==3)

@pytest.mark.skipif(not EXE, reason="Chromium is not installed")
def test_a_low_window_and_a_fine_screen(desk, tmp_path):
    "Magnified fourfold, a click was stored at -2000; a screen of two dots a pixel was given every second dot"
    with Chromium(tmp_path) as b:
        p = b.page('about:blank')
        p('Emulation.setDeviceMetricsOverride', width=640, height=160, deviceScaleFactor=2, mobile=False)
        p.go(f'http://127.0.0.1:{desk.server_port}/')
        p.wait("document.body.dataset.at=='0'")
        x,y,w,h,k = p.run("(r => [r.x,r.y,r.width,r.height,k])(cv.getBoundingClientRect())")
        assert k>0 and h>=200 and p.run("cv.width")==round(2*w)
        p.run(f"keys.f(); cv.dispatchEvent(new PointerEvent('pointerdown', {{isPrimary:true, clientX:{x+30.5*k}, clientY:{y+44.5*k}}}))")
        assert np.allclose(p.run("[fovea.x,fovea.y]"), [30,44])
        at = [round(2*o) for o in (30.5*k,44.5*k)]
        assert p.run(f"[...g.getImageData({at[0]},{at[1]},1,1).data].slice(0, 3)")[0]>200, "the cross is not where it was clicked"

@pytest.mark.skipif(not EXE, reason="Chromium is not installed")
def test_enter_on_a_button_presses_that_button(desk, tmp_path):
    "It saved what was marked so far, whatever button had the focus"
    with at_the_first(desk, tmp_path) as p:
        for o in ('x','x'): p.key(o)
        p.run("$('anew').focus()"); p.key('Enter')
        assert p.run("none")==dict(disc=False, fovea=False) and desk.work.at==0
        for k in range(2): p.run("$('none').focus()"); p.key('Enter')
        assert p.run("none")==dict(disc=True, fovea=True) and desk.work.at==0
        p.run("$('save').focus()"); p.key('Enter')
        p.wait("document.body.dataset.at=='1'")
        assert desk.work.at==1

@pytest.mark.skipif(not EXE, reason="Chromium is not installed")
def test_letters_can_be_switched_off(desk, tmp_path):
    "Whoever dictates types them by the way (WCAG 2.1.4); the browser remembers it"
    with at_the_first(desk, tmp_path) as p:
        assert p.run("getComputedStyle($('single')).colorScheme")=='dark', "WebKit draws the boxes of a light page: dark on dark"
        p.run("$('single').click(); cv.focus()")
        for o in ('x','f','+'): p.key(o)
        assert p.run("[none.disc,mode,disc]")==[False,'disc',None]
        p.key('ArrowLeft')
        assert p.run("disc.x < im.width/2"), "arrows are no letters"
        p.go(f'http://127.0.0.1:{desk.server_port}/')
        p.wait("document.body.dataset.at=='0'")
        assert not p.run("$('single').checked")
        p.run("$('single').click(); cv.focus()"); p.key('x')
        assert p.run("none.disc")

@pytest.mark.skipif(not EXE, reason="Chromium is not installed")
def test_only_a_drag_draws(desk, tmp_path):
    "Not the right button, whose menu hides from the page that it was let go; not a second finger, nor a pointer that nothing presses"
    with at_the_first(desk, tmp_path) as p:
        x,y,k = p.run("(r => [r.x,r.y,k])(cv.getBoundingClientRect())")
        def mouse(kind, at, button='none', held=0):
            p('Input.dispatchMouseEvent', type=f'mouse{kind}', x=x+at*k, y=y+at*k, button=button, buttons=held, clickCount=1)
        def finger(kind, at, **kw):
            how = json.dumps(dict(clientX=x+at*k, clientY=y+at*k, buttons=1, bubbles=True, pointerType='touch')|kw)
            p.run(f"void cv.dispatchEvent(new PointerEvent('pointer{kind}', {how}))")
        mouse('Pressed', 20, 'right', 2)
        mouse('Moved', 40, held=2)
        mouse('Released', 40, 'right')
        p.run("keys.f()")
        mouse('Pressed', 50, 'right', 2)
        mouse('Released', 50, 'right')
        assert p.run("[disc,fovea]")==[None,None]
        p.run("keys.d()")
        mouse('Pressed', 20, 'left', 1)
        mouse('Moved', 40, held=1)
        drawn = p.run("disc")
        finger('down', 60, isPrimary=False)
        finger('move', 70, isPrimary=False)
        assert p.run("disc")==drawn and drawn['w']>20
        mouse('Moved', 70) # it was let go elsewhere
        assert p.run("disc")==drawn
        finger('down', 60, isPrimary=True)
        finger('cancel', 60, isPrimary=True)
        finger('move', 80, isPrimary=True)
        assert p.run("disc")==drawn

def test_the_page_ends_with_the_last_picture(photos, tmp_path, capsys):
    "As the command runs it: it says where it is, takes answers, and tells the rater's error"
    import socket
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    told = []
    run = threading.Thread(target=lambda: told.append(main(['label', str(photos), '--port', port, '--out', tmp_path/'l.csv', '--repeats', .2])))
    run.start()
    class desk: server_port = port
    def up():
        try: return ask(desk, '/')[1].decode()
        except ConnectionError: return ''
    until(up)
    token = up().split('const token = "')[1].split('"')[0]
    for k in range(6): assert ask(desk, '/answer', dict(at=k, disc=DISC, fovea=FOVEA), **{'X-Token':token})[0]==200
    run.join(30)
    assert told==[0] and len(pd.read_csv(tmp_path/'l.csv'))==6
    said = capsys.readouterr()
    assert 'disc, in its diameters' in said.out and f'http://127.0.0.1:{port}' in said.err

def test_an_answer_that_was_half_written(photos, tmp_path, capsys):
    "On a full disk: the next answer was written behind the half line, and the whole table could no longer be read"
    out = tmp_path/'l.csv'
    w = Labels([photos], out, share=0)
    for k in range(3): w.answer(dict(at=k, disc=DISC, fovea=FOVEA))
    whole = out.read_bytes()
    for cut in (1,20):
        out.write_bytes(whole[:-cut])
        w = Labels([photos], out, share=0)
        assert w.at==2 and 'was not finished and is cut off' in capsys.readouterr().err
        with out.open('ab') as f: f.write(b'eye_1.jpg,60') # and while it runs
        w.answer(dict(at=2, disc=DISC, fovea=FOVEA))
        assert Labels([photos], out, share=0).at==3 and label.read_answers(out).path.nunique()==3
    out.write_bytes(b'')
    assert Labels([photos], out).at==0

@pytest.mark.parametrize('left', ['pa','path,disc_x','HEAD'])
def test_a_first_line_that_was_half_written(photos, tmp_path, left):
    "After a power failure the file was \"something else than answers\", for ever"
    out = tmp_path/'l.csv'
    out.write_text(','.join(ANSWER) if left=='HEAD' else left)
    w = Labels([photos], out, share=0)
    w.answer(dict(at=0, disc=DISC, fovea=FOVEA))
    assert Labels([photos], out, share=0).at==1

def test_an_answer_that_cannot_be_kept_is_sent_again(photos, tmp_path, monkeypatch):
    "It was told to be unwritten and stood there: the page said that another one was open, and took nothing more"
    out = tmp_path/'l.csv'
    w = Labels([photos], out, share=0)
    for k in range(2):
        with monkeypatch.context() as m, pytest.raises(OSError):
            def fail(f): raise OSError(errno.EIO, 'Input/output error')
            m.setattr(os, 'fsync', fail)
            w.answer(dict(at=k, disc=DISC, fovea=FOVEA))
        assert w.answer(dict(at=k, disc=DISC, fovea=FOVEA))['at']==k+1
    assert len(label.read_answers(out))==2

def test_what_cannot_be_labeled_is_told(photos, tmp_path):
    "A table was served as a picture; a volume could not be found"
    (out := tmp_path/'l.csv').write_text('path,label\nx.png,0\n')
    with pytest.raises(DataError, match='l.csv is no picture: name pictures'): Labels([out], tmp_path/'new.csv')
    with pytest.raises(DataError, match='something else than answers'): Labels([photos], out)
    with pytest.raises(DataError, match='`seed` is to be at least 0'): Labels([photos], tmp_path/'new.csv', seed=-1)
    for b in (b'\xff\xfe\0\1', b'a\n1,2\n'):
        out.write_bytes(b)
        with pytest.raises(DataError, match='l.csv (cannot be read as|holds something else than) answers'): label_error(out)
    with pytest.raises(DataError, match='no.csv cannot be read as answers'): label_error(tmp_path/'no.csv')

def test_what_cannot_be_shown_is_no_answer_of_a_rater(photos, tmp_path, capsys, monkeypatch):
    "A damaged file stood in the table as an eye whose disc and fovea cannot be seen; a table that was begun goes on"
    raw = (photos/'eye_0.jpg').read_bytes()
    for name,o in (('a.jpg',raw), ('cut.jpg',raw[:len(raw)//2])): (tmp_path/name).write_bytes(o)
    def stop(s): raise KeyboardInterrupt
    monkeypatch.setattr(label.time, 'sleep', stop)
    args = ['label', tmp_path/'a.jpg', tmp_path/'cut.jpg', '--port', 0, '--out', tmp_path/'l.csv']
    assert main(args)==1 and not (tmp_path/'l.csv').exists()
    err = capsys.readouterr().err
    assert '1 of 2 pictures cannot be shown' in err and 'cut.jpg breaks off' in err and 'a.jpg ' not in err
    w = Labels([str(o) for o in args[1:3]], tmp_path/'l.csv')
    w.answer(dict(at=0, disc=DISC, fovea=FOVEA))
    assert main(args)==0 and 'stopped after 1 of 2 pictures' in capsys.readouterr().err

def test_frames_of_a_volume_can_be_labeled(tmp_path):
    from dicoms import write
    write(tmp_path/'v.dcm', np.stack([phantom_fundus(seed=k, size=96).image for k in range(2)]))
    assert len(Labels([tmp_path/'v.dcm'], tmp_path/'l.csv').files)==2

def test_two_pages_of_one_rater_do_not_spoil_the_table(photos, tmp_path):
    "Each wrote its own first answer, and the table then belonged to no order: it could be gone on with by nobody"
    out = tmp_path/'l.csv'
    a,b,c = (Labels([photos], out, o) for o in ('me','me','you'))
    def one(w): return w.answer(dict(at=w.at, disc=DISC, fovea=FOVEA))['at']
    assert one(a)==1==one(c)
    with pytest.raises(DataError, match='has changed under this page'): one(b)
    assert one(a)==2==one(c) and Labels([photos], out, 'me').at==2 and len(pd.read_csv(out))==4
    out.unlink()
    with pytest.raises(DataError, match='has changed'): one(a)

@pytest.mark.parametrize('done', [0,3])
def test_ctrl_c_tells_the_error_so_far(photos, tmp_path, capsys, monkeypatch, done):
    "The page of the documentation said so; the command said 'stopped', and no more"
    out = tmp_path/'l.csv'
    w = Labels([photos], out)
    for k in range(done): w.answer(dict(at=k, disc=DISC, fovea=FOVEA))
    def stop(s): raise KeyboardInterrupt
    monkeypatch.setattr(label.time, 'sleep', stop)
    assert main(['label', photos, '--port', 0, '--out', out])==(0 if done else 130)
    said = capsys.readouterr()
    assert ('stopped after 3 of 5 pictures' in said.err and 'width of the disc' in said.out) if done else 'fundus label: stopped' in said.err

def test_what_cannot_be_kept_is_told_before_anybody_labels(photos, tmp_path, capsys, monkeypatch):
    "It had been told at the first save, and one picture's answer was lost"
    def shut(*args, **kwargs): raise OSError(30, 'Read-only file system', str(tmp_path/'x.csv'))
    monkeypatch.setattr(label, 'label_server', lambda *args: pytest.fail("a page that keeps nothing"))
    monkeypatch.setattr(label.Labels, 'write', shut)
    with pytest.raises(OSError, match='Read-only'): label.label_images(photos, tmp_path/'x.csv')
    assert 'to go at' not in ''.join(capsys.readouterr())

def test_a_scan_among_the_photographs_is_told(photos, tmp_path, capsys):
    "Disc and fovea of B-scans were asked for without a word"
    cv2.imwrite(str(tmp_path/'scan.png'), phantom_oct('DME', 1, 0).image)
    label.check_shown([photos/'eye_0.jpg', tmp_path/'scan.png'])
    err = capsys.readouterr().err
    assert '1 of 2 pictures are doubtful' in err and 'scan.png is gray and lies in no circle' in err and 'eye_0' not in err

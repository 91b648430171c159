"The app: its one call asked by clients that are not ours, who is let in, what is kept; and in Chromium: upload, answer, map, report, hostile files"
import http.client, json, os, shutil, signal, socket, subprocess, sys, tempfile, threading, time, urllib.request, uuid
import pytest
from pathlib import Path
from PIL import Image
gradio = pytest.importorskip('gradio', reason="gradio is not installed: pip install 'fundus_fastai[app]'")
import dicoms
from apps import NAME, RUN, hostile, run_of
from browser import EXE, Chromium
from fundus_fastai.app import page as P
from fundus_fastai.app.reader import NOTE, Reader
from fundus_fastai.cli import main
from fundus_fastai.phantom.fundus import phantom_fundus
from fundus_fastai.phantom.oct import phantom_oct

class App:
    "The app in this process, on a port of its own; every address beyond this machine that Python asks for is kept"
    def __init__(self, run=RUN): self.run = run
    def __enter__(self):
        self.asked,real = set(),socket.socket.connect
        def connect(s, to):
            if isinstance(to, tuple) and to[0] not in ('127.0.0.1','::1','localhost'): self.asked.add(to)
            return real(s, to)
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(socket.socket, 'connect', connect)
        find = socket.getaddrinfo
        def named(host, *args, **kwargs):
            if host not in ('127.0.0.1','::1','localhost',None): self.asked.add(host)
            return find(host, *args, **kwargs)
        self.patch.setattr(socket, 'getaddrinfo', named)
        self.patch.delenv('GRADIO_TEMP_DIR', raising=False) # or this one shares the folder of another that is open
        self.own = P.own_cache()
        self.cache,self.reader,self.port = self.own.__enter__(),Reader(self.run),P.free_port()
        self.page = P.launch(self.reader, port=self.port)
        self.url = f'http://127.0.0.1:{self.port}'
        return self
    def __exit__(self, *_):
        self.page.close(verbose=False)
        self.own.__exit__(None, None, None)
        self.patch.undo()
    def files(self): return [o for o in self.cache.rglob('*') if o.is_file()]

@pytest.fixture(scope='module')
def app():
    with App() as a: yield a
    assert not a.asked, "the server has asked somebody outside"
    assert not a.cache.exists()

@pytest.fixture(scope='module')
def scan(tmp_path_factory):
    f = tmp_path_factory.mktemp('scan')/'10_left.png'
    Image.fromarray(phantom_oct('CNV', seed=1, size=(96,128)).image).save(f)
    return f

def form(*files):
    "A form of files, by hand"
    mark = uuid.uuid4().hex
    parts = [f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{n}"\r\n\r\n'.encode()+b+b'\r\n' for n,b in files]
    return b''.join(parts)+f'--{mark}--\r\n'.encode(),{'Content-Type':f'multipart/form-data; boundary={mark}'}

def post(app, body=b'', headers=None, path='/predict', method='POST'):
    "Status and JSON (or text) of one request of the standard library"
    c = http.client.HTTPConnection('127.0.0.1', app.port, timeout=60)
    c.request(method, path, body, headers or {})
    r = c.getresponse()
    text = r.read().decode()
    try: return r.status,json.loads(text)
    except ValueError: return r.status,text

def form_for_page(scan, more=b''):
    "The form by which Gradio's page uploads"
    body,headers = form((scan.name,scan.read_bytes()+more))
    return body.replace(b'name="file"', b'name="files"'),headers

def told(app, path, **headers):
    "The headers of a reply"
    c = http.client.HTTPConnection('127.0.0.1', app.port, timeout=60)
    c.request('GET', path, headers=headers)
    return {k.lower():v for k,v in c.getresponse().getheaders()}

# --- the one call

def test_one_call_by_the_standard_library(app, scan, tmp_path):
    "What fundus predict says of the same file, DICOM too; nothing is left"
    dcm = Path(dicoms.write(tmp_path/'v.dcm', dicoms.scans(2)))
    body,headers = form((scan.name,scan.read_bytes()), ('v.dcm',dcm.read_bytes()), ('../../a/b.png',b'no picture'))
    before = app.files()
    with urllib.request.urlopen(urllib.request.Request(f'{app.url}/predict', body, headers), timeout=60) as r: told = json.load(r)
    a = told['answers']
    assert [o['name'] for o in a]==['10_left.png','v.dcm#1','v.dcm#2','b.png'] and [o['usable'] for o in a]==[True]*3+[False]
    assert (told['note'],told['phantom'],a[0]['patient'],a[0]['eye'],a[1]['eye'])==(NOTE,True,'10','L','L') and 'not an image' in a[3]['remark']
    df = app.reader.answers([scan])
    assert a[0]['prediction']==df.prediction[0] and a[0]['p']==pytest.approx({k:df[f'p_{k}'][0] for k in a[0]['p']}, abs=1e-6)
    assert app.files()==before, "what was sent is gone before the reply"

@pytest.mark.skipif(not shutil.which('curl'), reason="there is no curl")
def test_the_documented_line(app, scan):
    out = subprocess.run(['curl', '-sS', '-F', f'file=@{scan}', '-F', f'file=@{scan}', f'{app.url}/predict'], capture_output=True, text=True, timeout=60)
    assert len(json.loads(out.stdout)['answers'])==2 and not out.stderr

def test_requests_that_are_none(app, scan):
    body,kind = form((scan.name,scan.read_bytes()))
    for b,h,status,says in ((b'', {}, 400, 'curl -F'), (body, {'Content-Type':'image/png'}, 400, 'curl -F'), (form()[0], kind, 400, ''),
                            (iter([body]), kind, 411, 'length'), (b'x', {**kind,'Content-Length':str(65*10**6)}, 413, '64 MB'),
                            (b'nonsense', kind, 400, '')):
        got = post(app, b, h)
        assert got[0]==status and says in str(got[1]), (h, got)
    assert post(app, method='GET')[0]==405 and post(app, *form(*[(f'{k}.png',b'x') for k in range(17)]))[0]==400

def test_a_crowd_is_told_to_come_again(app, scan, monkeypatch):
    go,real,res = threading.Event(),app.reader.answers,[]
    monkeypatch.setattr(app.reader, 'answers', lambda o: go.wait(20) and real(o))
    body,headers = form((scan.name,scan.read_bytes()))
    many = [threading.Thread(target=lambda: res.append(post(app, body, headers)[0])) for _ in range(P.SEATS+2)]
    for o in many: o.start()
    while len(res)<2: time.sleep(.02)
    go.set()
    for o in many: o.join()
    assert sorted(res)==[200]*P.SEATS+[503]*2
    assert post(app, body, headers)[0]==200

def test_an_error_that_nobody_foresaw(app, scan, monkeypatch, capsys):
    "Told where the app runs; the caller gets JSON, too, without names of our files, and the next one an answer"
    def broken(o): raise RuntimeError(f'/srv/clinic/{len(o)}.db is locked')
    body,headers = form((scan.name,scan.read_bytes()))
    with monkeypatch.context() as m:
        m.setattr(app.reader, 'answers', broken)
        status,said = post(app, body, headers)
    assert status==500 and 'foresee' in said['error'] and said['note']==NOTE and 'clinic' not in str(said)
    assert '/srv/clinic/1.db is locked' in capsys.readouterr().err
    with monkeypatch.context() as m:
        m.setattr(app.reader, 'answers', lambda o: int(str(o[0]))) # an error that names it
        assert post(app, body, headers)[0]==500
    assert 'ValueError' in (err := capsys.readouterr().err) and scan.name not in err
    assert post(app, body, headers)[0]==200

# --- who is let in

def test_strangers(app, scan):
    body,headers = form((scan.name,scan.read_bytes()))
    for path,method in (('/predict','POST'), ('/','GET'), ('/config','GET'), ('/gradio_api/upload','POST')):
        for h in ({'Host':'evil.example'}, {'Origin':'https://evil.example'}, {'Origin':'null'}): assert post(app, body, headers|h, path, method)[0]==403
    assert post(app, body, headers|{'Origin':app.url})[0]==200

def test_localhost_has_the_same_door(scan):
    port = P.free_port()
    page = P.launch(Reader(RUN), port=port, host='localhost')
    try:
        app = type('A', (), dict(port=port))
        body,headers = form((scan.name,scan.read_bytes()))
        assert post(app, body, headers)[0]==200
        for path,method in (('/predict','POST'), ('/','GET')):
            assert post(app, body, headers|{'Host':f'evil.com:{port}','Origin':f'http://evil.com:{port}'}, path, method)[0]==403
    finally: page.close(verbose=False)

def test_names_that_a_disk_does_not_take(app, scan, capsys):
    "Too long in bytes, or a folder: answered, and no name is written into the log"
    for name in ('患者山田太郎'*20+'.png', '..', '.', '', 'a/../..', '\\..'):
        body,headers = form((name,scan.read_bytes()))
        status,said = post(app, body, headers)
        assert status in (200,400) and '山田' not in capsys.readouterr().err, name
    assert P.short_name('患'*99+'.png').endswith('患.png') and len(P.short_name('患'*99+'.png').encode())<=120
    assert [P.short_name(o) for o in ('..','a/..','x\\eye.png','')]==['eye','eye','eye.png','eye']

def test_many_pictures_are_opened_a_few_at_a_time(app, scan, monkeypatch):
    from fundus_fastai.app import reader as R
    many,real = [],R.predict_files
    monkeypatch.setattr(R, 'predict_files', lambda net, files, *args, **kwargs: many.append(len(files)) or real(net, files, *args, **kwargs))
    df = app.reader.answers([scan]*10)
    assert many==[4,4,2] and len(df)==10 and df.prediction.nunique()==1 and df.index.tolist()==list(range(10))

def test_a_name_with_a_number_sign_is_asked_further(app, scan, tmp_path):
    "It was answered, and whoever asked why was told that it had been forgotten"
    acts = P.Acts(app.reader)
    for f in (shutil.copy(scan, tmp_path/'eye #2 left.png'), dicoms.write(tmp_path/'Eye#1.dcm', dicoms.scans(2))):
        kept,_ = acts.read([f])
        im,rows = acts.cover(kept, kept[-1]['path'], (3,3))
        assert im is not None and 'window covered' in rows

def test_no_other_door(app, tmp_path):
    "Files of the machine, other calls, the descriptions of both"
    secret = tmp_path/'secret.txt'
    secret.write_text('secret')
    for p in (f'/gradio_api/file={secret}', f'/gradio_api/file={RUN}/config.json', f'/gradio_api/file={app.cache}/../x', '/docs', '/redoc', '/openapi.json'):
        assert post(app, path=p, method='GET')[0] in (403,404), p
    info = post(app, path='/gradio_api/info', method='GET')[1]
    assert not info['named_endpoints'] and not info['unnamed_endpoints']
    names = [o['api_name'] for o in post(app, path='/config', method='GET')[1]['dependencies'] if o['api_name']]
    stolen = json.dumps(dict(data=[[dict(path=str(secret), meta=dict(_type='gradio.FileData'))], False])).encode()
    for name in names:
        got = post(app, stolen, {'Content-Type':'application/json'}, f'/gradio_api/call/{name}')
        if got[0]==200: got = post(app, path=f"/gradio_api/call/{name}/{got[1]['event_id']}", method='GET')
        assert 'secret' not in str(got).replace('secret.txt', ''), (name, got)
    raw = form(('big.png', bytes(65*10**6)))
    assert post(app, *raw, path='/gradio_api/upload')[0]==413

def test_uploads_grow_old(app, scan):
    "A file in the app's folder goes when it is old, whoever has put it there"
    body,headers = form((scan.name,scan.read_bytes()))
    body = body.replace(b'name="file"', b'name="files"')
    status,paths = post(app, body, headers, '/gradio_api/upload')
    assert status==200 and Path(paths[0]).is_relative_to(app.cache) and Path(paths[0]).exists()
    P.remove_old(app.cache, 60); assert Path(paths[0]).exists()
    acts = P.Acts(app.reader)
    kept,html = acts.read(paths)
    k = kept[0]['path']
    P.remove_old(app.cache, -1); assert not app.files()
    assert 'forgotten' in acts.cover(kept, k, (3,3))[1] and 'forgotten' in acts.save_report(kept)[1] and 'forgotten' in acts.read(paths, one=True)[1]
    assert 'upload a picture first' in acts.cover([], k, (3,3))[1] and 'upload a picture first' in acts.cover(kept, str(scan), (3,3))[1]
    states = [o for o in app.page.blocks.values() if isinstance(o, gradio.State)]
    assert [o.time_to_live for o in states]==[float('inf')]*2, "what the page shows is known for as long as it is open"

def test_they_are_looked_after_by_themselves(monkeypatch):
    monkeypatch.delenv('GRADIO_TEMP_DIR', raising=False)
    with P.own_cache(.1) as cache, P.own_cache() as same:
        (cache/'eye.png').write_text('x')
        end = time.time()+20
        while (cache/'eye.png').exists() and time.time()<end: time.sleep(.05)
        assert same==cache and not (cache/'eye.png').exists()
    assert not cache.exists()

def test_the_folder_of_a_killed_app_goes(tmp_path, monkeypatch):
    "Its lock goes with it, and the next one sweeps"
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    code = "import os,signal,tempfile; from fundus_fastai.core import neighbor; from pathlib import Path\n" \
           f"with neighbor(Path('{tmp_path}/fundus_app'), tempfile.mkdtemp) as d: (d/'eye.png').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, '-c', code], check=False)
    left, = tmp_path.iterdir()
    assert (left/'eye.png').exists()
    monkeypatch.delenv('GRADIO_TEMP_DIR', raising=False)
    with P.own_cache() as cache: assert [*tmp_path.iterdir()]==[cache] and os.environ['GRADIO_TEMP_DIR']==str(cache)
    assert not [*tmp_path.iterdir()] and 'GRADIO_TEMP_DIR' not in os.environ

# --- the command

def test_mistakes_are_a_sentence(monkeypatch, capsys, tmp_path):
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0)); s.listen()
        for args,says in ((['app',RUN,'--port',s.getsockname()[1]], 'name another with --port'), (['app',RUN,'--port',99999], '65535'),
                          (['app',tmp_path/'none','--port',0], 'config.json'), (['app',tmp_path,'--port',0], 'config.json')):
            assert main(args)==1
            err = capsys.readouterr().err
            assert says in err and 'Traceback' not in err, err
    monkeypatch.setitem(sys.modules, 'gradio', None)
    assert main(['app', str(RUN), '--port', '0'])==1 and "fundus_fastai[app]" in capsys.readouterr().err

def test_the_command_says_where_and_ends_by_ctrl_c(monkeypatch, capsys):
    "With share a password guards the page, and the call is not there"
    told = {}
    monkeypatch.delenv('GRADIO_TEMP_DIR', raising=False) # of the app above
    class Page:
        share_url = None
        def close(self, verbose): told['closed'] = 'waited' in told
    def launch(reader, **kw):
        told.update(kw, cache=os.environ['GRADIO_TEMP_DIR'])
        return Page()
    monkeypatch.setattr(P, 'launch', launch)
    monkeypatch.setattr(P, 'until_stopped', lambda: told.update(waited=True))
    assert main(['app', str(RUN), '--port', '0', '--share'])==0
    err = capsys.readouterr().err
    assert f"127.0.0.1:{told['port']}" in err and 'not a medical device' in err and 'PHANTOM' in err and told['auth'][1] in err and 'no public address' in err
    assert told['closed'] and not Path(told['cache']).exists()

@pytest.mark.parametrize('name', ['SIGTERM','SIGHUP'])
def test_a_service_manager_or_a_closed_terminal_ends_it_as_ctrl_c_does(capsys, name):
    "With the terminal it had ended at once, and uploads stayed in /tmp"
    if not (how := getattr(signal, name, None)): return
    before = {o:signal.getsignal(o) for o in (signal.SIGTERM,how)}
    try:
        signal.signal(how, signal.SIG_DFL)
        threading.Timer(.2, os.kill, (os.getpid(),how)).start()
        P.until_stopped()
    finally:
        for k,v in before.items(): signal.signal(k, v)
    assert 'what was uploaded is deleted' in capsys.readouterr().err

def test_with_a_password_nobody_gets_in_without(scan):
    "As for a public address; the call for programs is not there"
    port = P.free_port()
    page = P.launch(Reader(RUN), port=port, auth=('eye','word'), call=False)
    try:
        app = type('A', (), dict(port=port))
        body,headers = form((scan.name,scan.read_bytes()))
        assert [post(app, path=o, method='GET')[0] for o in ('/config','/gradio_api/info')]==[401,401]
        assert post(app, body.replace(b'name="file"', b'name="files"'), headers, '/gradio_api/upload')[0]==401
        assert post(app, body, headers)[0] in (404,405)
    finally: page.close(verbose=False)

def test_in_colab_it_stands_below_the_cell(monkeypatch):
    "No public address; the frame is made by Colab's own proxy"
    import gradio.utils
    shown = []
    monkeypatch.setitem(sys.modules, 'google.colab', type(sys)('google.colab'))
    monkeypatch.setattr(gradio.utils, 'colab_check', lambda: True)
    monkeypatch.setattr('IPython.display.display', lambda o, **kw: shown.append(o.data))
    page = P.show_app(RUN)
    try:
        assert page.share_url is None and not page.share and len(shown)==1 and f'{page.server_port}' in shown[0] and 'google.colab.kernel' in shown[0]
        c = http.client.HTTPConnection('127.0.0.1', page.server_port)
        c.request('GET', '/', headers={'Host':'x-colab.googleusercontent.com'})
        assert c.getresponse().status==200
    finally: page.close(verbose=False)

def test_what_is_shown_is_kept_by_no_browser_and_framed_by_nobody(app, scan):
    "Gradio says nothing of it: a browser kept the pictures of patients on its disk"
    up = post(app, *form_for_page(scan), path='/gradio_api/upload')[1][0]
    for o in ('/','/config',f'/gradio_api/file={up}','/nothing'):
        h = told(app, o)
        assert h['cache-control']=='no-store' and h['x-content-type-options']=='nosniff' and h['x-frame-options']=='DENY', o
        assert "default-src 'self'" in h['content-security-policy'] and "frame-ancestors 'none'" in h['content-security-policy']
    assert 'x-frame-options' not in P.page_headers(True) and 'ancestors' not in P.page_headers(True)['Content-Security-Policy'] # in a notebook
    assert told(app, '/', Host='evil.example')['cache-control']=='no-store'

def test_a_page_that_is_older_than_its_server_names_no_upload_in_the_log(app, capfd):
    "Gradio printed the path of the file that it did not know, and those of all that it did"
    gone = '/tmp/.fundus_app-0a1b2c3d/ab/MRN4711.png'
    def act(fn, data, trigger):
        asked = dict(data=data, fn_index=fn, session_hash=f's{fn}', trigger_id=trigger)
        assert post(app, json.dumps(asked), {'Content-Type':'application/json'}, '/gradio_api/queue/join')[0]==200
        return post(app, path=f'/gradio_api/queue/data?session_hash=s{fn}', method='GET')[1]
    fns = {o.fn.__name__:k for k,o in app.page.fns.items() if o.fn}
    of = {k:app.page.fns[k].targets[0][0] for k in fns.values()}
    file = dict(path=gone, orig_name='MRN4711.png', meta={'_type':'gradio.FileData'})
    assert 'process_completed' in act(fns['read'], [[file],False], of[fns['read']])
    assert 'process_completed' in act(fns['why'], [None,gone,None,'occlusion',''], of[fns['why']])
    err = capfd.readouterr().err
    assert 'InvalidPathError' in err and 'queueing.py' in err and 'MRN4711' not in err

def test_uploads_have_an_end(app, scan, monkeypatch):
    "A folder of pictures that fell on the page filled the disk; they are counted together with what lies there"
    body,headers = form_for_page(scan, b'0'*2_000_000)
    assert post(app, body, headers, '/gradio_api/upload')[0]==200
    monkeypatch.setattr(P, 'IN_ALL', 3)
    status,why = post(app, body, headers, '/gradio_api/upload')
    assert status==507 and 'try again in 10 minutes' in why
    monkeypatch.setattr(P, 'AT_ONCE', 1)
    assert post(app, body, headers, '/gradio_api/upload')[0]==413 and post(app, *form((scan.name,scan.read_bytes())))[0]==200
    assert post(app, iter([body]), headers, '/gradio_api/upload')[0]==411
    asked = dict(type='http', method='POST', path='/gradio_api/upload', headers=[])
    assert P.not_let_in(asked) is None and P.not_let_in(asked, lambda h: None)[0]==411, "a proxy, as Colab's, may send it in pieces"

def test_another_site_may_not_ask_a_page_for_a_network(scan):
    "Gradio lets every site read what such a page answers, with the login of whoever has opened both"
    port = P.free_port()
    page = P.launch(Reader(RUN), port=port, host='0.0.0.0')
    try:
        app,(body,headers) = type('A', (), dict(port=port)),form((scan.name,scan.read_bytes()))
        def ask(**more): return post(app, body, headers|dict(Host='eyes.hospital')|more)[0]
        assert [ask(), ask(Origin='http://eyes.hospital')]==[200,200]
        assert [ask(Origin=o) for o in ('https://evil.example','null')]==[403,403]
        seen = {'Origin':'https://eyes.hospital', 'Host':f'127.0.0.1:{port}', 'Sec-Fetch-Site':'same-origin'} # behind a server with TLS
        assert [ask(**seen), ask(**seen|{'Sec-Fetch-Site':'cross-site'})]==[200,403]
    finally: page.close(verbose=False)

@pytest.mark.parametrize('host', ['0.0.0.0','127.0.0.1'])
def test_who_opens_it_to_a_network_is_told(monkeypatch, capsys, host):
    "It had said 127.0.0.1 and no more"
    monkeypatch.setattr(P, 'launch', lambda reader, **kw: type('Page', (), dict(close=lambda self, verbose: None))())
    monkeypatch.setattr(P, 'until_stopped', lambda: None)
    assert main(['app', str(RUN), '--port', '0', '--host', host])==0
    assert ('OPEN to whoever' in capsys.readouterr().err)==(host=='0.0.0.0')
    assert main(['app', str(RUN), '--port', '0', '--host', '192.0.2.7'])==1 and '192.0.2.7 is no address of this computer' in capsys.readouterr().err

# --- in Chromium

chromium = pytest.mark.skipif(EXE is None, reason="there is no Chromium: apt-get install chromium, or name one by FUNDUS_CHROMIUM")
OWN = ('127.0.0.1','clients.google','clients2.google','update.googleapis','accounts.google','redirector.gvt1','www.google','optimizationguide','content-autofill','safebrowsing')

def text(page, what): return page.run(f"document.querySelector('{what}').innerText")
def tab(page, name): page.run(f"[...document.querySelectorAll('button[role=tab]')].find(o => o.innerText=='{name}').click()")
def press(page, what): page.run(f"document.querySelector('{what}').click()")
def answered(page, n): page.wait(f"document.querySelector('#answers [data-answers]')?.dataset.answers=='{n}'")
def picked(page, name): page.wait(f"document.querySelector('#which input')?.value.includes('{name}')")

def upload(page, *files):
    "Choose files where the page takes them, after those that are there have been taken away"
    if page.run("!!document.querySelector('#up [aria-label=Clear]')"):
        press(page, '#up [aria-label=Clear]')
        page.wait("!document.querySelector('#answers [data-answers]')")
    page.wait("!!document.querySelector('#up input[type=file]')")
    root = page('DOM.getDocument')['root']['nodeId']
    node = page('DOM.querySelector', nodeId=root, selector='#up input[type=file]')['nodeId']
    page('DOM.setFileInputFiles', nodeId=node, files=[str(o) for o in files])

def click_at(page, what, x, y):
    "Press the mouse at shares of an element's sides"
    left,top,w,h = page.run(f"(r => [r.x,r.y,r.width,r.height])(document.querySelector('{what}').getBoundingClientRect())")
    for o in ('mousePressed','mouseReleased'): page('Input.dispatchMouseEvent', type=o, x=left+x*w, y=top+y*h, button='left', clickCount=1)

@chromium
def test_upload_answer_map_window_and_report(app, scan, tmp_path):
    "And nobody else is asked, by the server or by the browser"
    with Chromium(tmp_path) as browser:
        page = browser.page(app.url, size=(1200,1000))
        page.wait("!!document.querySelector('#up input[type=file]')")
        assert 'not a medical device' in text(page, '#banner') and 'PHANTOM' in text(page, '#banner')
        upload(page, scan)
        answered(page, 1)
        said = app.reader.answers([scan]).prediction[0]
        assert said in text(page, '#answers .said') and text(page, '#answers').count('%')>=2
        picked(page, scan.name)
        tab(page, 'Why')
        page.wait("document.querySelector('#eye img')?.complete")
        press(page, '#why')
        page.wait("!!document.querySelector('#map img') && document.querySelector('#words').innerText.includes('windows of 5 pixels')")
        assert not page.run("document.querySelectorAll('[aria-label*=Share]').length") # no button that sends it away
        assert page.run("getComputedStyle(document.querySelector('#words .rows')).overflowWrap")=='anywhere', "a long name was cut off on a phone"
        assert page.run("getComputedStyle(document.querySelector('#why')).backgroundColor")=='rgb(37, 99, 235)', "white on it has a contrast of 5.2; it was 3.7"
        assert page.run("[...document.querySelectorAll('#answers meter')].every(o => o.ariaHidden=='true')"), "the number beside it says it in words"
        assert page.run("['answers','words'].every(o => document.querySelector(`#${o} [aria-live=polite]`)?.innerText.trim())"), "who does not see was not told that an answer had come"
        click_at(page, '#eye img', .5, .5)
        page.wait("document.querySelector('#rows').innerText.includes('window covered')")
        tab(page, 'Report')
        press(page, '#make')
        link = page.wait("document.querySelector('#report a[href*=fundus_report]')?.href")
        with urllib.request.urlopen(link) as r: html,how = r.read().decode(),r.headers['content-disposition']
        assert 'attachment' in how and html.count('<img')==2 and 'PHANTOM' in html and scan.name in html
        thrown = [o for o in browser.events if o.get('method')=='Runtime.exceptionThrown']
    assert not [u for u in browser.asked() if u.startswith('http') and not any(k in u for k in OWN)] and not thrown

@chromium
def test_a_card_of_others_asks_nobody(tmp_path):
    "`!![` became a picture, and so did a drawing's label and the terms: whoever wrote the net heard that it had been opened, and where"
    shutil.copytree(RUN, tmp_path/'run')
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        there = f'http://127.0.0.1:{s.getsockname()[1]}' # where nobody listens
    drawing = f'graph TD; A["<img src={there}/drawn>"] --> B'
    (tmp_path/'run/README.md').write_text(f'# Card\n!![a]({there}/twice)\n\n!![b][c]\n\n```mermaid\n{drawing}\n```\n\n[c]: {there}/ref\n')
    config = json.loads((tmp_path/'run/config.json').read_text())
    (tmp_path/'run/config.json').write_text(json.dumps(config|dict(source='csv', terms=f'![t]({there}/terms) <img src={there}/tag>')))
    with App(tmp_path/'run') as app, Chromium(tmp_path) as browser:
        page = browser.page(app.url)
        page.wait("!!document.querySelector('#up input[type=file]')")
        tab(page, 'The net')
        page.wait("document.querySelector('#card').innerText.includes('graph TD')")
        time.sleep(.5)
        assert not page.run("document.querySelectorAll('.prose img, .mermaid svg').length")
        page.run("addEventListener('securitypolicyviolation', e => { window.stopped = e.blockedURI })")
        page.run(f"new Image().src = '{there}/through'") # what came through all the same
        page.wait(f"window.stopped?.startsWith('{there}')")
    assert not [o for o in browser.asked() if o.startswith(there)]

@chromium
def test_no_number_of_a_table_is_cut_in_two(tmp_path):
    "In a column of 280 pixels `+0.000` had stood on two lines; a long name is cut"
    head = ['left_eye_of_MRN4711.png','as it is','window covered','change']
    css = (Path(P.__file__).parent/'templates/app.css').read_text()
    (tmp_path/'a.html').write_text(f"<style>body{{width:280px;margin:0;font:16px sans-serif}}{css}</style>{P.table(head, [('0','0.231','0.231','+0.000')])}")
    with Chromium(tmp_path) as browser:
        page = browser.page((tmp_path/'a.html').as_uri())
        page.wait("!!document.querySelector('table')")
        wide,*high = page.run("[document.querySelector('table').offsetWidth, ...[...document.querySelectorAll('td')].map(o => o.clientHeight)]")
        assert wide<=280 and max(high)<30, (wide, high)

@chromium
def test_a_report_on_paper_says_phantom_on_each_page_and_shows_map_beside_picture(scan, tmp_path):
    "The bar stood on the first page alone, and a map on the page after its picture"
    reader = Reader(RUN)
    (tmp_path/'a.html').write_text(reader.report(reader.answers([scan])))
    with Chromium(tmp_path/'home') as browser:
        page = browser.page((tmp_path/'a.html').as_uri())
        page('Emulation.setEmulatedMedia', media='print')
        assert page.wait("(o => [o.position, o.right])(getComputedStyle(document.querySelector('.phantom')))")==['fixed','0px']
        a,b = page.run("[...document.images].map(o => (r => [r.left,r.right,r.top])(o.getBoundingClientRect()))")
        bar = page.run("document.querySelector('.phantom').getBoundingClientRect().left")
        assert a[2]==b[2] and a[1]<b[0] and b[1]<=bar, (a, b, bar)

def pick(page, name):
    "Choose another picture"
    page.run("(o => { o.focus(); o.dispatchEvent(new MouseEvent('mousedown', {bubbles:true})) })(document.querySelector('#which input'))")
    page.wait("document.querySelectorAll('[role=option]').length")
    page.run(f"[...document.querySelectorAll('[role=option]')].find(o => o.innerText.includes('{name}')).dispatchEvent(new MouseEvent('mousedown', {{bubbles:true}}))")
    picked(page, name)

@pytest.mark.slow
@chromium
def test_nothing_of_one_picture_stands_beside_another(tmp_path):
    "Another is chosen, one is taken away, or the map is still being made; and the report goes with its eyes"
    names = ['Anna.png','Bert.png','Carl.png']
    for k,o in enumerate(names): Image.fromarray(phantom_fundus(['diabetic retinopathy'], 3, k, size=300).image).save(tmp_path/o)
    with App(run_of(tmp_path, 'dr')) as app, Chromium(tmp_path/'a') as browser:
        page = browser.page(app.url, size=(1200,1000))
        upload(page, *(tmp_path/o for o in names))
        answered(page, 3); picked(page, 'Anna')
        tab(page, 'Why')
        anna = page.wait("document.querySelector('#eye img')?.src")
        press(page, '#why')
        page.wait("document.querySelector('#map img') && document.querySelector('#words').innerText.includes('Anna.png: occlusion')")
        tab(page, 'Report')
        press(page, '#make')
        page.wait("!!document.querySelector('#report a[href*=fundus_report]')")
        tab(page, 'Lesions and landmarks')
        press(page, '#look')
        page.wait("document.querySelector('#found img') && document.querySelector('#what').innerText.includes('Anna.png')")
        pick(page, 'Bert')
        page.wait("!document.querySelector('#found img') && !document.querySelector('#what').innerText")
        tab(page, 'Why')
        page.wait("!document.querySelector('#map img') && !document.querySelector('#words').innerText")
        page.wait(f"document.querySelector('#eye img') && document.querySelector('#eye img').src!='{anna}'")
        tab(page, 'Report')
        assert page.run("!!document.querySelector('#report a[href*=fundus_report]')"), "it is of all three"
        tab(page, 'Why')
        go = threading.Event()
        app.reader.pool.submit(go.wait, 60) # somebody else's work
        press(page, '#why')
        time.sleep(1)
        pick(page, 'Carl')
        page.wait("!document.querySelector('#eye img')", 5)
        go.set()
        page.wait("!!document.querySelector('#eye img')")
        time.sleep(3)
        assert not page.run("!!document.querySelector('#map img')") and not text(page, '#words') and 'Error' not in page.run("document.body.innerText")
        pick(page, 'Anna')
        page.wait("!!document.querySelector('#eye img')")
        press(page, '#why')
        page.wait("document.querySelector('#words').innerText.includes('Anna.png: occlusion')")
        tab(page, 'Read')
        page.run("[...document.querySelectorAll('#up button')].find(o => /remove/i.test(o.getAttribute('aria-label') || '')).click()")
        answered(page, 2); picked(page, 'Bert')
        tab(page, 'Why')
        page.wait(f"document.querySelector('#eye img') && document.querySelector('#eye img').src!='{anna}'")
        assert not page.run("!!document.querySelector('#map img')") and not text(page, '#words')
        P.remove_old(app.cache, -1)
        press(page, '#why')
        page.wait("document.querySelector('#words').innerText.includes('forgotten')")
        tab(page, 'Report')
        page.wait("!document.querySelector('#report a[href*=fundus_report]')")
        tab(page, 'Read')
        press(page, '#one input')
        page.wait("document.querySelector('#answers').innerText.includes('forgotten')")

@pytest.mark.slow
@chromium
def test_hostile_files_both_eyes_lesions_and_many_visitors(tmp_path):
    "Of a net of photographs"
    why = hostile(tmp_path)
    names = [o := NAME.replace('/', ''), o.replace('left', 'right')]
    for k,o in enumerate(names): Image.fromarray(phantom_fundus(['diabetic retinopathy'], 3, 2, size=400).image[:,::1-2*k]).save(tmp_path/o)
    with App(run_of(tmp_path, 'dr')) as app, Chromium(tmp_path/'a') as one, Chromium(tmp_path/'b') as two:
        ann,bob = (o.page(app.url, size=(1200,1000)) for o in (one,two))
        for o in (ann,bob): o.wait("!!document.querySelector('#up input[type=file]')")
        assert 'PHANTOM' not in text(ann, '#banner')
        upload(ann, *(tmp_path/o for o in why))
        answered(ann, len(why))
        said = text(ann, '#answers')
        assert said.count('No answer:')==len(why) and all(o in said for o in why.values()) and str(app.cache) not in said
        upload(ann, *(tmp_path/o for o in names))
        answered(ann, 2)
        assert 'onerror=alert(1)' in text(ann, '#answers') and not ann.run("document.querySelectorAll('#answers img').length")
        press(ann, '#one input')
        answered(ann, 3)
        assert 'one person, 2 pictures, eyes: R and L' in text(ann, '#answers')
        tab(ann, 'Lesions and landmarks')
        press(ann, '#look')
        ann.wait("!!document.querySelector('#found img') && document.querySelector('#what').innerText.includes('hemorrhages')")
        tab(bob, 'Why') # who has sent nothing sees nothing of another
        press(bob, '#why')
        bob.wait("document.querySelector('#words').innerText.includes('upload a picture first')")
        assert not bob.run("!!document.querySelector('#map img')") and names[1] not in bob.run("document.body.innerText")
        tab(ann, 'Read')
        press(ann, '#try')
        answered(ann, 4)
        for o in (ann,bob): o.look(size=(400,800)) # on a phone answers stand below the upload, as wide
        ann.wait("document.querySelector('#answers').getBoundingClientRect().width>250")
        assert ann.run("document.querySelector('#answers meter').offsetWidth")>90, "a bar of 20 pixels beside a wide name"
        assert ann.run("document.documentElement.scrollWidth")<=400
        r,g,b = ann.bar('#answers')
        assert b>g>r, "browsers draw a high share green, as if all were well"
        thrown = [e for o in (one,two) for e in o.events if e.get('method')=='Runtime.exceptionThrown']
    assert not thrown and not app.asked and not app.cache.exists()

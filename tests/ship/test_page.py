"A page that needs no server: its files, and, in Chromium, that it answers as Python does, explains, and lets nothing out"
import base64, contextlib, http.server, json, os, re, shutil, socket, subprocess, sys, threading, time, urllib.request, zlib
import numpy as np, pandas as pd, pytest, torch
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from PIL import Image
from browser import EXE, Chromium, elsewhere, small_disks
from heard import Page
from fundus_fastai.cli import main
from fundus_fastai.core import DataError, ModelError
from fundus_fastai.explain.occlusion import fields_of, occlusion
from fundus_fastai.image.read import in_color, read_image
from fundus_fastai.image.recipe import Eye, as_recipe, field_of_view, kind_doubt, recipe_steps
from fundus_fastai.phantom.fundus import phantom_fundus
from fundus_fastai.phantom.oct import CLASSES, phantom_oct
from fundus_fastai.score.kinds import get_kind
from fundus_fastai.ship import page as P
from fundus_fastai.ship.onnx import OnnxNet, net_picture, predict_onnx, write_onnx
from fundus_fastai.ship.page import page_run, page_server
from fundus_fastai.vision.data import OpenEye
from made import mean_model

chromium = pytest.mark.skipif(EXE is None, reason="there is no Chromium: apt-get install chromium, or name one by FUNDUS_CHROMIUM")
SIZE = 56
POINTS = [dict(question='b', goal='sensitivity', at_least=.9, threshold=.6), dict(question='b', goal='specificity', at_least=.9, threshold=.95)]
TOLD = dict(kind='category', classes=['a','b'], columns=['p_a','p_b'], image='fundus', size=SIZE, recipe='color', sha256='ab'*32, source='phantom',
            question='Is this <b>eye</b> dark?', arch='mean', terms='Drawn by us.', library_version='0', points=POINTS, operating=dict(positive='b'), temperature=None)

def net_file(to, **more): return write_onnx(to, mean_model(SIZE), TOLD|more)

@pytest.fixture(scope='module')
def net(tmp_path_factory): return net_file(tmp_path_factory.mktemp('net')/'m.onnx')

@pytest.fixture(scope='module')
def folder(net, tmp_path_factory):
    page_run(net, d := tmp_path_factory.mktemp('page')/'page')
    return d

@pytest.fixture(scope='module')
def photo(tmp_path_factory):
    f = tmp_path_factory.mktemp('photo')/'eye <i>one<i>.png'
    Image.fromarray(phantom_fundus(seed=5, patient=2, size=333).image).save(f)
    return f

@contextlib.contextmanager
def served(folder, port=0):
    s = page_server(folder, port)
    threading.Thread(target=s.serve_forever, daemon=True).start()
    try: yield f'http://127.0.0.1:{s.server_port}/'
    finally: s.shutdown(); s.server_close()

def test_the_server_answers_this_computer_alone(folder):
    "Not another name of it, nor another site's page; both names that a person types"
    def asked(at, **headers):
        c = http.client.HTTPConnection('127.0.0.1', int(at.split(':')[2].strip('/')))
        try:
            c.request('GET', '/net.json', headers=headers)
            return c.getresponse().status
        finally: c.close()
    with served(folder) as at:
        here = at.removeprefix('http://').strip('/')
        assert asked(at, Host=here)==asked(at, Host=here.replace('127.0.0.1', 'localhost'))==asked(at, Host=here, Origin=at.strip('/'))==200
        assert asked(at, Host='evil.example')==asked(at, Host=here, Origin='http://evil.example')==403

# --- the folder

def test_files_and_digests(folder):
    names = {o.name for o in folder.iterdir()}
    assert names=={'index.html','sw.js','net.json','model.onnx','draws.bin','ort-LICENSE.txt','ort-NOTICES.txt','phantom-1.png','phantom-2.png','phantom-3.png',*P.PLAIN,*P.runtime()['files']}
    assert 'MIT License' in (folder/'ort-LICENSE.txt').read_text()
    kept = json.loads((folder/'sw.js').read_text().split('const files = ')[1].split('\n')[0])
    assert set(kept)=={'./',*names-{'sw.js'}}
    assert sum(o.stat().st_size for o in P.BROWSER.rglob('*') if o.is_file())<2.5e6 # in the wheel

def test_the_page_is_valid_and_its_warning_is_heard(folder):
    html = (folder/'index.html').read_text(encoding='utf-8')
    assert Page(html).faults==[] and '<p class="phantom" role="alert">' in html

def test_what_is_put_in_is_text(folder):
    html = (folder/'index.html').read_text()
    assert 'Is this &lt;b&gt;eye&lt;/b&gt; dark?' in html and '<b>eye' not in html and 'PHANTOM' in html and 'Not a medical device' in html and 'Drawn by us.' in html
    assert P.POLICY.replace("'", '&#39;') in html and '<script>' not in html and ' style=' not in html and ' onclick' not in html

def test_a_browser_that_keeps_forms_keeps_none_of_this_page(folder):
    "Firefox put the slider of the color back where it had been before a reload, and the color not"
    fields = re.findall('<(?:select|input)[^>]*>', (folder/'index.html').read_text())
    assert len(fields)==3 and all('autocomplete="off"' in o or 'type="file"' in o for o in fields), fields

def test_a_damaged_runtime(monkeypatch):
    told = P.runtime()
    monkeypatch.setattr(P, 'runtime', lambda: told|dict(files=dict.fromkeys(told['files'], 'ab')))
    with pytest.raises(ModelError, match='damaged'): P.vendored('ort.wasm.min.mjs')

def said_by(capsys, *argv):
    assert main(list(map(str, argv)))==1
    text = capsys.readouterr().err.strip()
    assert '\n' not in text and 'did not foresee' not in text, text
    return text

def test_bad_input_in_a_sentence(net, folder, tmp_path, capsys):
    before = {o.name:o.stat().st_mtime_ns for o in folder.iterdir()}
    assert '--force' in said_by(capsys, 'page', net, '--to', folder)
    assert before=={o.name:o.stat().st_mtime_ns for o in folder.iterdir()}
    assert '--to' in said_by(capsys, 'page', net)
    assert 'is no file' in said_by(capsys, 'page', tmp_path/'gone.onnx', '--to', tmp_path/'a')
    odd = tmp_path/'odd.onnx'
    odd.write_bytes(net.read_bytes()[:-90]+b'x'*90)
    assert 'onnx' in said_by(capsys, 'page', odd, '--to', tmp_path/'a')
    assert 'noise' in said_by(capsys, 'page', net_file(tmp_path/'n.onnx', recipe='green_noise'), '--to', tmp_path/'a')
    (other := tmp_path/'other').mkdir()
    (other/'net.json').write_text('{"mine":1}')
    assert 'has not written' in said_by(capsys, 'page', net, '--to', other, '--force')
    assert not (tmp_path/'a').exists()

def test_a_full_disk_is_told_before_a_byte_is_written(net, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(P, 'free_bytes', lambda path: 9_000_000, raising=False)
    shutil.copytree(folder, old := tmp_path/'old')
    for to,more in ((tmp_path/'a',[]), (old,['--force'])):
        assert 'does not fit' in (text := said_by(capsys, 'page', net, '--to', to, *more)) and '9 MB are free' in text
    assert not (tmp_path/'a').exists() and {o.name:o.read_bytes() for o in old.iterdir()}=={o.name:o.read_bytes() for o in folder.iterdir()}

def test_a_page_that_was_stopped_half_way_is_no_new_one(net, tmp_path, monkeypatch):
    "Old words lay over a new net. Nothing takes its place before all is written; `sw.js`, by which a browser keeps a page, is the last"
    page_run(net, to := tmp_path/'page')
    before,real,replace = {o.name:o.read_bytes() for o in to.iterdir()},P.whole_file,os.replace
    def stopped(path, e=KeyboardInterrupt()):
        if path.name=='sw.js': raise e
        return real(path)
    other = net_file(tmp_path/'n.onnx', question='Another?')
    def there(): return {o.name:o.read_bytes() for o in to.iterdir()}
    for e in (KeyboardInterrupt(), OSError(28, 'No space left on device')):
        with monkeypatch.context() as m, pytest.raises(type(e)):
            m.setattr(P, 'whole_file', lambda path: stopped(path, e))
            page_run(other, to, force=True)
        assert there()==before
    def killed(a, b):
        if Path(b).parent==to and Path(b).name=='index.html': raise KeyboardInterrupt
        replace(a, b)
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(os, 'replace', killed)
        page_run(other, to, force=True)
    assert before.keys()-there().keys()=={'index.html','sw.js'}
    page_run(other, to, force=True)
    assert there().keys()==before.keys() and 'Another?' in (to/'index.html').read_text()

def test_a_page_for_which_there_was_no_room_leaves_no_folder(net, tmp_path, monkeypatch):
    "Half a page lay there, and the same command was refused"
    def full(path): raise OSError(28, 'No space left on device')
    with monkeypatch.context() as m, pytest.raises(OSError):
        m.setattr(P, 'whole_file', full)
        page_run(net, tmp_path/'page')
    assert not (tmp_path/'page').exists()
    page_run(net, tmp_path/'page')

def test_a_port_in_use_is_told_before_any_work(net, tmp_path, capsys):
    with socket.create_server(('127.0.0.1', 0)) as s:
        assert 'in use' in (text := said_by(capsys, 'page', net, '--to', tmp_path/'a', '--serve', s.getsockname()[1])) and '--serve PORT' in text
    assert not (tmp_path/'a').exists()
    assert '65535' in said_by(capsys, 'page', net, '--to', tmp_path/'a', '--serve', 70_000)

def test_a_free_port_is_named(net, tmp_path, capsys, monkeypatch):
    class Stopped(P.LocalServer):
        def serve_forever(self): raise KeyboardInterrupt
    monkeypatch.setattr(P, 'LocalServer', Stopped)
    assert main(['page',str(net),'--to',str(tmp_path/'a'),'--serve','0'])==0
    said = capsys.readouterr().err
    assert int(re.search(r'http://127.0.0.1:(\d+)/ gives it out', said)[1])>1023 and 'stopped; the page is kept' in said

def test_what_the_server_sends(folder):
    with served(folder) as url:
        with urllib.request.urlopen(url+'ort-wasm-simd-threaded.wasm') as r: assert r.headers['Content-Type']=='application/wasm'
        with urllib.request.urlopen(url+'sw.js') as r:
            assert r.headers['Content-Type']=='text/javascript' and "frame-ancestors 'none'" in r.headers['Content-Security-Policy']
        (folder/'sub').mkdir()
        for o in ('sub/', '%2e%2e/%2e%2e/etc/passwd', '../../etc/passwd'):
            with pytest.raises(OSError, match='404'): urllib.request.urlopen(url+o)
        (folder/'sub').rmdir()

# --- in a browser

@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    with Chromium(tmp_path_factory.mktemp('chromium')) as b: yield b

@pytest.fixture
def site(folder):
    with served(folder) as url: yield url

STATE = "document.getElementById('state')"

def opened(browser, url, **kwargs):
    p = browser.page(url, **kwargs)
    p.wait(f"{STATE} && ({STATE}.textContent.startsWith('Ready') || {STATE}.className=='wrong')")
    return p

def state(p): return p.run(f'{STATE}.textContent')

def read(p, file):
    "Give a file to the page: what is said, and the probabilities as numbers"
    p.upload('#file', file)
    p.wait(f"{STATE}.className=='wrong' || {STATE}.textContent.startsWith('Answered')")
    if p.run(f"{STATE}.className"): return state(p),None
    return state(p),dict(p.run("[...document.querySelectorAll('#chances tr')].map(o => [o.cells[0].textContent, o.querySelector('meter').value])"))

def same_answer(said, net, file, calibrated=False):
    "The page's answer is Python's, and so are its probabilities, which may be those at the temperature"
    t = predict_onnx(net, [file]).iloc[0]
    assert said[0].endswith(f': {t.prediction}'), (said, t)
    n = OnnxNet(net)
    outputs = [o.name for o in n.session.get_outputs()]
    x = net_picture(Eye.read(file, n.gray, 2*n.config['size']), n.recipe, n.config['size'], gray=n.gray)
    p = n.ask(x[None], 'calibrated' if calibrated and 'calibrated' in outputs else 'answer')[0]
    assert all(abs(said[1][c]-v)<1e-5 for c,v in zip(n.config['classes'], p)), (said, p)
    return t

# Crop and recipe, in the browser's own JavaScript
RECIPES = ['color','gray','luma','red','no_green','vgg16','local_average','local_average_gray','graham','contrast','even','square',
           'local_average:sigma=40','local_average:sigma=3,gray','crop,vgg16:rgb','gray,crop']

def odd_photo(k, rng):
    "Phantom `k`, with the frame's odd cuts, and a white surround"
    size = int(rng.choice([128,200,333,512]))
    im = phantom_fundus(seed=1000, patient=k, size=size).image
    if k%3==1: im = np.pad(im, ((0,0),(37,60),(0,0)))
    if k%5==2: im = im[size//10:-(size//9)]
    if k%7==3: im = np.where(im.max(-1, keepdims=True)<12, 255, im).astype(np.uint8)
    if k%11==4: im = im[::-1,:int(size*.6)]
    if k%6==5: im = np.pad(im, ((7,7),(7,7),(0,0)), constant_values=230)
    return np.ascontiguousarray(im)

def crop_gaps(p, url, many):
    "Largest differences of browser and Python, of pictures and of fields"
    rng,gaps = np.random.default_rng(0),[]
    p.run(f"(async () => {{ window.E = await import('{url}eye.mjs'); window.D = new Uint8Array(await (await fetch('{url}draws.bin')).arrayBuffer()) }})()")
    for k in range(many):
        scan,size = k%10==9,int(rng.choice([96,224,299]))
        im = phantom_oct(CLASSES[k%4], 3, k+1, size=(128+k,144+2*k)).image if scan else odd_photo(k, rng)
        r = as_recipe('' if scan else RECIPES[k%len(RECIPES)])
        want,rgb = net_picture(Eye(im), r, size, gray=scan).astype(int),np.repeat(im[...,None], 3, -1) if scan else im
        how = json.dumps(dict(recipe=r.to_json(), size=size, image='oct' if scan else 'fundus'))
        text = p.run(f"(() => {{ const im = {{w:{im.shape[1]}, h:{im.shape[0]}, d:Uint8Array.from(atob('{b64(rgb)}'), o => o.charCodeAt(0))}}, v = E.fieldOfView(im, D);"
                     f"const o = E.netPicture(im, {how}, D).d; let s = ''; for (let i=0; i<o.length; i+=9999) s += String.fromCharCode(...o.subarray(i, i+9999)); return JSON.stringify([btoa(s), [v.cx,v.cy,v.r,v.aspect,...v.box]]) }})()")
        coded,field = json.loads(text)
        got,f = np.frombuffer(base64.b64decode(coded), np.uint8).reshape(want.shape),field_of_view(rgb)
        gaps.append((int(np.abs(got-want).max()), float(np.abs(np.subtract(field, [f.cx,f.cy,f.r,f.aspect,*f.box])).max()), str(r), k))
    return gaps

def b64(a): return base64.b64encode(np.ascontiguousarray(a).tobytes()).decode()

@chromium
def test_answers_as_python_does_explains_and_stays_without_a_server(net, folder, photo, tmp_path):
    with Chromium(tmp_path) as b:
        with served(folder) as url:
            p = opened(b, url)
            t = same_answer(read(p, photo), net, photo)
            assert p.run("document.querySelector('i')===null && document.getElementById('seen').textContent.includes('<i>one<i>.png')")
            rows = p.run("[...document.querySelectorAll('#points tr')].map(o => [o.cells[0].textContent, o.cells[1].textContent])")
            assert dict(rows)=={k:str(v) for k,v in t[['b at sensitivity 90 %','b at specificity 90 %']].items()}
            gaps = crop_gaps(p, url, 6)
            assert max(gaps)[0]<=2 and max(o[1] for o in gaps)<1e-6, sorted(gaps)[-3:]
            p.run("document.querySelector('.try').click()")
            p.wait(f"{STATE}.textContent.startsWith('Answered') && document.getElementById('seen').textContent.startsWith('phantom-1')")
            r,g,o = p.bar('#chances')
            assert o>g>r, "browsers draw a high share green, as if all were well"
            p.run("document.getElementById('go').click()")
            p.wait(f"{STATE}.textContent.includes('whole')")
            assert 'evidence' in p.run("document.getElementById('words').textContent")
            (tmp_path/'a.png').write_text('no picture')
            assert 'a.png is not a picture' in read(p, tmp_path/'a.png')[0]
            p.wait("document.getElementById('offline').textContent.includes('works without a network')")
        p.go(url) # the server is gone
        p.wait(f"{STATE} && {STATE}.textContent.startsWith('Ready')")
        same_answer(read(p, photo), net, photo)
    asked = b.asked()
    assert url in asked and url+'model.onnx' in asked
    assert elsewhere(asked, url)==[]

AS_FIREFOX = """const W = Worker
window.Worker = class extends W { constructor(u, how) { super(window.out && String(u).startsWith('blob:') ? '/none.mjs' : u, how) } }"""

@chromium
def test_without_a_network_where_what_was_kept_does_not_reach_a_blob(net, folder, photo, tmp_path):
    "As in Firefox, where the page had said that it works without a network, and did not; whatever server gave the files, their policy holds"
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with Chromium(tmp_path) as b:
        with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as s:
            threading.Thread(target=s.serve_forever, daemon=True).start()
            p = opened(b, url := f'http://127.0.0.1:{s.server_port}/')
            p.wait("document.getElementById('offline').textContent.includes('works without a network')")
            policy = p.run("caches.match('./worker.mjs').then(o => o.headers.get('content-security-policy'))")
            s.shutdown()
        assert policy==P.POLICY
        p = opened(b, url, before='window.out = true;'+AS_FIREFOX)
        same_answer(read(p, photo), net, photo)
        assert p.run("fetch('./none.mjs').then(o => o.status, () => 0)")==0 # the server is gone

@chromium
def test_what_looks_like_another_kind_is_told_as_in_python(browser, site, photo):
    p,scan = opened(browser, site),phantom_oct('DME', 3, 1, size=(128,192)).image
    p.run(f"(async () => {{ window.E = await import('{site}eye.mjs'); window.D = new Uint8Array(await (await fetch('{site}draws.bin')).arrayBuffer()) }})()")
    color,mark = odd_photo(0, np.random.default_rng(0)),np.repeat(scan[...,None], 3, -1)
    mark[:9,:9] = 255,0,0 # a colored mark makes no photograph
    for im,want in ((scan,(False,True)), (mark,(False,True)), (color,(True,False)), (color[...,1],(False,False))):
        rgb = im if im.ndim==3 else np.repeat(im[...,None], 3, -1)
        for image,w in zip(('oct','fundus'), want):
            got = p.run(f"E.doubt({{w:{im.shape[1]}, h:{im.shape[0]}, d:Uint8Array.from(atob('{b64(rgb)}'), o => o.charCodeAt(0))}}, '{image}', D)")
            assert got==kind_doubt(Eye(im, 'eye.png', 1, in_color(im)), image=='oct') and bool(got)==w, (image, got)
    p.wait("!document.getElementById('file').disabled")
    read(p, photo)
    assert not p.run("document.getElementById('doubt').hidden")==(p.run("fetch('net.json').then(r => r.json()).then(o => o.image)")=='oct')

@chromium
@pytest.mark.skipif(not small_disks(), reason="this machine lets a test mount nothing")
def test_a_page_is_kept_where_the_disk_is_nearly_full(folder, tmp_path):
    "There a browser keeps no large file as it arrives (the runtime's 13 MB), and takes it whole"
    with Chromium(tmp_path, small=True) as b, served(folder) as url:
        opened(b, url).wait("document.getElementById('offline').textContent.includes('works without a network')", 20)

@chromium
def test_a_page_that_cannot_be_kept_says_so(folder, tmp_path):
    shutil.copytree(folder, tmp_path/'page')
    (tmp_path/'page'/'phantom-3.png').unlink()
    with Chromium(tmp_path) as b, served(tmp_path/'page') as url:
        opened(b, url).wait("document.getElementById('offline').textContent.includes('does not keep the page')", 20)

@chromium
@pytest.mark.slow
def test_crop_and_recipe_on_fifty_phantoms(browser, site):
    gaps = crop_gaps(opened(browser, site), site, 50)
    assert max(gaps)[0]<=2 and max(o[1] for o in gaps)<1e-6, sorted(gaps)[-3:]

@chromium
@pytest.mark.slow
def test_steps_that_a_browser_knows(browser, site):
    p = opened(browser, site)
    assert set(p.run(f"import('{site}eye.mjs').then(o => o.STEPS)"))==set(P.IN_BROWSER)==set(recipe_steps)-{'noise','clahe','level','flatten'}

ANSWERS = dict(category=(['p_a','p_b','p_c'], {}), grades=(['p_0','p_1','p_2'], {}), number=(['pred'], dict(digits=2)), ordered=(['pred'], dict(cuts=[.4,1.5,2.7,3.1])),
               multilabel=(['p_a','p_b'], dict(thresholds=dict(a=.3))), both=(['p_f','p_m','pred_age'], {}))

@chromium
@pytest.mark.slow
@pytest.mark.parametrize('kind', ANSWERS)
def test_decides_as_each_kind_of_answer_does(browser, site, kind):
    columns,op = ANSWERS[kind]
    t = pd.DataFrame(np.random.default_rng(1).random((40,len(columns)), np.float32)*(4 if columns==['pred'] else 1), columns=columns)
    want,config = get_kind(kind).decode(t, op).tolist(),json.dumps(dict(kind=kind, columns=columns, operating=op))
    p = browser.page(site)
    got = p.run(f"import('{site}answer.mjs').then(o => {t.to_json(orient='records', double_precision=15)}.map(r => o.decide({config}, r)))")
    assert got==want

ASK = """(async () => {{
 const w = new Worker(URL.createObjectURL(new Blob(['import "{url}worker.mjs"'], {{type:'text/javascript'}})), {{type:'module'}})
 const heard = [], f = document.getElementById('file').files[0] || window.F
 const until = said => new Promise(done => {{ w.onmessage = e => {{ heard.push(e.data); if (e.data.said===said || e.data.said==='refused') done(e.data) }} }})
 await until('here'); w.postMessage({{act:'open'}}); await until('ready')
 w.postMessage({{act:'read', file:window.F}}); const a = await until('answer')
 w.postMessage({{act:'why'}}); await until('whole')
 return JSON.stringify([a.row, heard.filter(o => o.said==='map').map(o => [o.stage, o.window, o.stride, o.maps.map(m => [...m])])])
}})()"""

def seer(recipe):
    "As much of a learner as `fields_of` looks at"
    return SimpleNamespace(dls=SimpleNamespace(opener=OpenEye('fundus', recipe)))

class Mean(torch.nn.Module):
    "What the file computes, as scores: log odds of a and of b"
    def forward(self, x):
        p = x.mean((1,2,3))
        return torch.stack([p.log()-(1-p).log(), (1-p).log()-p.log()], 1)

@chromium
@pytest.mark.slow
def test_the_map_is_what_occlusion_gives(browser, site, photo):
    p = opened(browser, site)
    coded = b64(np.frombuffer(photo.read_bytes(), np.uint8))
    p.run(f"window.F = new File([Uint8Array.from(atob('{coded}'), o => o.charCodeAt(0))], 'a.png')")
    row,maps = json.loads(p.run(ASK.format(url=site)))
    x = np.array(Image.open(photo))
    pic = net_picture(Eye(x), as_recipe('color'), SIZE)
    inside = fields_of(seer('crop'), [x], (SIZE,SIZE))
    t = torch.tensor(pic.copy()).permute(2,0,1)[None].float()/255
    assert [(s,w,d) for s,w,d,_ in maps]==[('coarse',16,8),('fine',8,4)]
    for _,w,d,got in maps:
        want = occlusion(Mean(), t, w, stride=d, inside=inside, output='logit', progress=False).map[0].numpy().reshape(2, -1)
        got,both = np.array(got),(want!=0)&(np.array(got)!=0)
        assert (both!=(want!=0)|(got!=0)).mean()<.02, 'where the eye ends' # a pixel, where its middle lies on the edge
        gap = np.abs(want-got)[both].max()/np.abs(want).max()
        assert gap<.05 and np.corrcoef(want[both], got[both])[0,1]>.999, (gap, w)

def png(w, h, bits=8, data=b''):
    def part(k, d): return len(d).to_bytes(4, 'big')+k+d+zlib.crc32(k+d).to_bytes(4, 'big')
    head = w.to_bytes(4, 'big')+h.to_bytes(4, 'big')+bytes([bits,2,0,0,0])
    return b'\x89PNG\r\n\x1a\n'+part(b'IHDR', head)+part(b'IDAT', data)+part(b'IEND', b'')

@chromium
@pytest.mark.slow
def test_pictures_that_get_no_answer(browser, site, tmp_path):
    p,im = opened(browser, site),phantom_fundus(seed=5, patient=2, size=200).image
    def save(name, raw): (tmp_path/name).write_bytes(raw); return tmp_path/name
    def drawn(name, a, **kw): Image.fromarray(a).save(tmp_path/name, **kw); return tmp_path/name
    whole = drawn('whole.jpg', im, quality=95).read_bytes()
    odd = {save('large.png', png(10_000, 8_000)):'80 megapixels', save('empty.png', b''):'empty', save('deep.png', png(64, 64, 16)):'8 bits',
           save('cut.jpg', whole[:len(whole)//2]):'breaks off', save('bad.png', png(64, 64, 8, b'nonsense')):'damaged',
           drawn('small.png', im[:10,:10]):'shows no eye', drawn('black.png', im*0):'no visible field', save('a.tif', b'II*\0'+b'0'*99):'TIFF',
           drawn('cmyk.jpg', im).rename(tmp_path/'c0.jpg'):'Answered', drawn('clear.png', np.dstack([im,im[...,0]*0])):'transparent'}
    Image.fromarray(im).convert('CMYK').save(tmp_path/'cmyk.jpg')
    odd[tmp_path/'cmyk.jpg'] = 'CMYK'
    odd[save('a.dcm', bytes(128)+b'DICM'+bytes(9))] = 'is a DICOM file, which browsers do not read: ask fundus predict'
    odd[save('larger.png', png(8_001, 8_000))] = '65 megapixels, and at most 64 are read'
    for f,why in odd.items():
        said,numbers = read(p, f)
        assert why in said and (numbers is None)==(why!='Answered'), (f, said)
        assert p.run("document.getElementById('answer').hidden")==(numbers is None)
    assert 'Answered' in read(p, drawn('good.png', im))[0] # and goes on

NOISE = """(() => { const c = OffscreenCanvasRenderingContext2D.prototype, real = c.getImageData
  c.getImageData = function(...o) { const p = real.apply(this, o); for (let i=0; i<p.data.length; i+=BY) p.data[i] ^= MASK; return p } })()"""

@chromium
@pytest.mark.parametrize('by,mask,read', [(1,0b1010_0101,False), (9,1,True)])
def test_noise_in_place_of_a_picture_gets_no_answer(browser, site, photo, by, mask, read):
    "As where Firefox resists fingerprinting, of which the net then said what it saw; a lowest bit here and there does no harm"
    p = opened(browser, site)
    p.run(NOISE.replace('BY', str(by)).replace('MASK', str(mask)))
    got = p.run(f"(async () => {{ const {{openPicture}} = await import('{site}picture.mjs'), raw = Uint8Array.from(atob('{base64.b64encode(photo.read_bytes()).decode()}'), o => o.charCodeAt(0));"
                "return openPicture(new Blob([raw])).then(o => String(o.w), String) })()")
    assert got=='333' if read else 'against fingerprinting' in got, got

@chromium
@pytest.mark.slow
def test_an_animation_gets_no_answer_as_in_python(browser, site, net, tmp_path):
    "Of GIF, WebP and PNG; one that holds a single picture does; a turned WebP or PNG is told, since not every browser turns it"
    p,im = opened(browser, site),Image.fromarray(phantom_fundus(seed=5, patient=2, size=200).image)
    two,exif = dict(save_all=True, append_images=[im.rotate(9)]),Image.Exif()
    for o,kw,why in [*((o, two, 'is animated') for o in ('gif','webp','png')), ('gif',dict(comment=b'\x2c\x21'*300),None), ('webp',dict(save_all=True),None),
                     ('png',dict(save_all=True),None), ('webp',dict(exif=exif),None)]:
        im.save(f := tmp_path/f'a.{o}', **kw)
        said = read(p, f)[0]
        if why:
            assert why in said, (o, said)
            with pytest.raises(DataError, match=why): read_image(f)
        else: assert 'Answered' in said and read_image(f).shape, (o, kw, said)
    exif[274] = 6
    for o in ('webp','png'): # WebKit turns neither, Chromium a PNG
        im.save(f := tmp_path/f'turned.{o}', exif=exif)
        assert f'every browser follows in a {dict(webp="WebP").get(o, "PNG")}: save it upright' in read(p, f)[0]

@chromium
@pytest.mark.slow
def test_bitmaps_of_os2(browser, site, tmp_path):
    "Whose header is short, read as any other it told of millions of megapixels"
    p,a = opened(browser, site),phantom_fundus(seed=5, patient=2, size=332).image
    raw = a[::-1,:,::-1].tobytes()
    head = b''.join(o.to_bytes(k, 'little') for o,k in ((26+len(raw),4), (0,4), (26,4), (12,4), (332,2), (332,2), (1,2), (24,2)))
    (tmp_path/'a.bmp').write_bytes(b'BM'+head+raw)
    assert 'Answered' in read(p, tmp_path/'a.bmp')[0] and (read_image(tmp_path/'a.bmp')==a).all()

@chromium
@pytest.mark.slow
def test_formats_and_notes_of_cameras(browser, site, net, tmp_path):
    p,im = opened(browser, site),Image.fromarray(np.ascontiguousarray(phantom_fundus(seed=5, patient=2, size=400).image[:,:300]))
    exif = Image.Exif()
    exif[274] = 6
    alpha = im.convert('RGBA')
    alpha.putalpha(Image.linear_gradient('L').resize(im.size))
    for name,o,kw in (('a.png',im,{}), ('turned.jpg',im,dict(exif=exif, quality=95)), ('gray.png',im.convert('L'),{}), ('p.png',im.quantize(64),{}),
                      ('a.bmp',im,{}), ('a.webp',im,dict(lossless=True)), ('a.gif',im.quantize(64),{}), ('alpha.png',alpha,{})):
        o.save(f := tmp_path/name, **kw)
        said,t = read(p, f),predict_onnx(net, [f]).iloc[0]
        assert (', 400 by 300 pixels' if name=='turned.jpg' else ', 300 by 400 pixels') in p.run("document.getElementById('seen').textContent"), name
        assert said[1] and abs(said[1]['a']-t.p_a)<(1e-5 if name[-3:]!='jpg' and name!='alpha.png' else .01), (name, said, t.p_a)

@chromium
@pytest.mark.slow
@pytest.mark.parametrize('before,flag,why', [('delete globalThis.WebAssembly', None, 'no WebAssembly'), ('WebAssembly.validate = () => false', None, 'without SIMD'),
                                             ('delete globalThis.OffscreenCanvas', None, '2023'), (None, '--js-flags=--jitless', 'WebAssembly')])
def test_old_browsers(browser, site, before, flag, why, tmp_path):
    if flag:
        with Chromium(tmp_path, flag) as b: assert why in state(opened(b, site))
    else: assert why in state(opened(browser, site, before=before))

@chromium
@pytest.mark.slow
def test_nothing_gets_out_of_page_or_worker(browser, folder):
    seen = []
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    class Spy(http.server.BaseHTTPRequestHandler):
        def do_GET(self): seen.append(self.path); self.send_response(200); self.send_header('Access-Control-Allow-Origin', '*'); self.end_headers()
        do_POST = do_GET
        def log_message(self, *args): pass
    spy = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Spy)
    threading.Thread(target=spy.serve_forever, daemon=True).start()
    there = f'http://127.0.0.1:{spy.server_port}/'
    urllib.request.urlopen(there+'heard')
    plain = http.server.ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=str(folder))) # a web space that sends no policy
    threading.Thread(target=plain.serve_forever, daemon=True).start()
    p = browser.page(before='delete Navigator.prototype.serviceWorker') # which lets nothing out either
    p('Target.setAutoAttach', autoAttach=True, waitForDebuggerOnStart=False, flatten=True)
    p.go(f'http://127.0.0.1:{plain.server_port}/')
    p.wait(f"{STATE} && {STATE}.textContent.startsWith('Ready')")
    worker = next(o['params']['sessionId'] for o in reversed(browser.events) if o['method']=='Target.attachedToTarget' and o['params']['targetInfo']['type']=='worker')
    tries = f"fetch('{there}page').then(() => 'out', () => 'kept')"
    there_too = browser('Runtime.evaluate', worker, expression=tries, awaitPromise=True, returnByValue=True)['result']['value']
    assert p.run(tries)=='kept' and there_too=='kept'
    p.run(f"new Image().src = '{there}image'; navigator.sendBeacon('{there}beacon', 'x'); 1")
    p.run(f"new Promise(done => {{ const f = document.createElement('form'); f.action = '{there}form'; f.method = 'post'; document.body.append(f); f.submit(); setTimeout(() => done(1), 300) }})")
    time.sleep(.3)
    for o in (spy,plain): o.shutdown(); o.server_close()
    assert seen==['/heard']

@chromium
@pytest.mark.slow
def test_a_changed_or_missing_net(browser, folder, tmp_path):
    for k,(spoil,why) in enumerate(((lambda f: f.write_bytes(f.read_bytes()[:-1]+b'0'), 'not the one'), (lambda f: f.unlink(), 'is missing'))):
        shutil.copytree(folder, d := tmp_path/str(k))
        spoil(d/'model.onnx')
        with served(d) as url: assert why in state(opened(browser, url))

@chromium
@pytest.mark.slow
def test_stop_and_another_picture_in_between(browser, site, photo):
    slow = "const P = Worker.prototype.postMessage; window.sent = []; Worker.prototype.postMessage = function (o) { sent.push(o.act); return P.call(this, o) }"
    p = opened(browser, site, before=slow)
    read(p, photo)
    p.run("document.getElementById('go').click(); document.getElementById('stop').click()")
    p.wait(f"{STATE}.textContent.startsWith('Stopped')")
    time.sleep(1)
    assert state(p).startswith('Stopped')
    assert p.run("document.getElementById('stop').disabled && !document.getElementById('go').disabled")
    p.run("document.getElementById('go').click()")
    assert 'Answered' in read(p, photo)[0]
    time.sleep(1)
    assert p.run("document.getElementById('shown').hidden") and 'Answered' in state(p) # no map of the other picture
    assert p.run('sent').count('stop')==1

@chromium
@pytest.mark.slow
def test_two_pictures_dropped_at_once(browser, site, photo, tmp_path):
    "Both eyes, dragged together: one of them was answered, and nothing said of the other"
    p = opened(browser, site)
    p.drop(photo, shutil.copy(photo, tmp_path/'other.png'))
    p.wait(f"{STATE}.className=='wrong'")
    assert '2 files' in state(p) and 'one is answered at a time' in state(p) and p.run("document.getElementById('answer').hidden")
    p.drop(photo)
    p.wait(f"{STATE}.textContent.startsWith('Answered')")
    (tmp_path/'eyes').mkdir()
    p.drop(tmp_path/'eyes')
    p.wait(f"{STATE}.className=='wrong'")
    assert state(p).startswith('eyes cannot be read: if it is a folder, choose a picture in it')

@chromium
@pytest.mark.slow
def test_on_a_slow_line_it_is_told_what_is_awaited(browser, site, photo):
    "The line that stood there meanwhile said that the browser runs no programs, and a picture that was dropped was lost without a word"
    hold = """const P = Worker.prototype.postMessage, D = Object.getOwnPropertyDescriptor(Worker.prototype, 'onmessage')
      Object.defineProperty(Worker.prototype, 'onmessage', {set(f) { D.set.call(this, e => e.data.said==='ready' ? window.come = () => f(e) : f(e)) }})"""
    p = browser.page(site, before=hold)
    p.wait("typeof come=='function'")
    assert re.fullmatch(r'The net is on its way: 1[0-9] MB, which takes minutes on a slow line', state(p))
    p.drop(photo)
    p.wait(f"{STATE}.textContent.includes('is read as soon as the net is here')")
    p.run('come()')
    p.wait(f"{STATE}.textContent.startsWith('Answered')")
    assert photo.name in p.run("document.getElementById('seen').textContent")

@chromium
@pytest.mark.slow
def test_an_answer_that_comes_late_is_of_no_other_picture(browser, site, photo, tmp_path):
    "A damaged file is chosen while the answer to the first is on its way"
    late = """const D = Object.getOwnPropertyDescriptor(Worker.prototype, 'onmessage')
      Object.defineProperty(Worker.prototype, 'onmessage', {set(f) { D.set.call(this, e => {
        if (e.data.said!=='answer') return f(e)
        window.onWay = true
        window.come = () => f(e) }) }})"""
    p = opened(browser, site, before=late)
    (tmp_path/'cut.png').write_bytes(photo.read_bytes()[:9000])
    p.upload('#file', photo)
    p.wait('window.onWay')
    p.upload('#file', tmp_path/'cut.png')
    p.wait(f"{STATE}.className=='wrong'")
    p.run('come()')
    assert state(p).startswith('cut.png breaks off') and p.run("['answer','why','paper'].every(o => document.getElementById(o).hidden)")

@chromium
@pytest.mark.slow
def test_another_net_at_the_same_address(photo, tmp_path):
    "Is shown by the next tab, though the first is still open; that one keeps its answer, and is told"
    def write(question): page_run(net_file(tmp_path/'m.onnx', question=question), tmp_path/'page', force=True)
    write('Is this eye dark?')
    with Chromium(tmp_path/'c') as b:
        with served(tmp_path/'page') as url:
            old = opened(b, url)
            old.wait("document.getElementById('offline').textContent.includes('works without a network')")
            old.go(url) # what the browser has kept
            old.wait(f"navigator.serviceWorker.controller && {STATE} && {STATE}.textContent.startsWith('Ready')")
            read(old, photo)
            time.sleep(1) # a server tells a file's time in seconds
            write('Is this eye bright?')
            new = b.page(url)
            new.wait(f"document.title.startsWith('Is this eye bright') && {STATE}.textContent.startsWith('Ready')")
            old.wait(f"{STATE}.textContent.includes('gives out another page')")
            assert old.run("document.title.startsWith('Is this eye dark') && !document.getElementById('answer').hidden")
        new.go(url) # without a server
        new.wait(f"document.title.startsWith('Is this eye bright') && {STATE}.textContent.startsWith('Ready')")

@chromium
@pytest.mark.slow
@pytest.mark.parametrize('a,b,said,shown', [(0.,0.,'a + b','b'), (0.,1.,'a','a'), (1.,1.,'none','b')])
def test_the_map_is_of_a_label_that_the_net_answers(browser, photo, tmp_path, a, b, said, shown):
    "The likeliest of them, or of all where none is answered, which is told; thresholds of `a` and `b`"
    page_run(net_file(tmp_path/'m.onnx', kind='multilabel', points=[], operating=dict(thresholds=dict(a=a, b=b))), tmp_path/'page')
    with served(tmp_path/'page') as url:
        p = opened(browser, url)
        assert read(p, photo)[0].endswith(f': {said}')
        p.run("document.getElementById('go').click()")
        p.wait(f"{STATE}.textContent.includes('whole')")
        assert p.run("document.getElementById('class').selectedOptions[0].textContent")==shown
        words = p.wait("document.getElementById('words').textContent")
        assert words.startswith('b is the likeliest, not answered.')==(said=='none') and 'vidence' in words

@chromium
@pytest.mark.slow
def test_a_map_of_a_number_beside_classes_has_its_unit(browser, photo, tmp_path):
    "As of sex and age: so many of nothing were lost"
    page_run(net_file(tmp_path/'m.onnx', kind='both', columns=['p_a','pred_age'], classes=['a'], points=[], operating={}), tmp_path/'page')
    with served(tmp_path/'page') as url:
        p = opened(browser, url)
        p.upload('#file', photo)
        p.wait(f"{STATE}.textContent.startsWith('Answered')")
        p.run("document.getElementById('go').click()")
        p.wait(f"{STATE}.textContent.includes('whole')")
        p.run("document.getElementById('class').value = 1; document.getElementById('class').dispatchEvent(new Event('change'))")
        p.wait("document.getElementById('words').textContent.includes('for years')", 5)
        told = p.run("document.getElementById('scale').textContent").split('. ')[0]
        assert told.endswith(' years') and float(told.split()[2])>0, "it had been 0.00"

@chromium
@pytest.mark.slow
def test_keyboard_alone(browser, site, photo):
    p,at = opened(browser, site),"document.activeElement.id || document.activeElement.tagName"
    p.key('Tab')
    assert p.run(at)=='file'
    read(p, photo)
    for _ in range(9):
        p.key('Tab')
        if p.run(at)=='go': break
    p.key('Enter')
    assert p.run(at)=='stop' or p.run(f"{STATE}.textContent.includes('whole')")
    p.wait(f"{STATE}.textContent.includes('whole')")
    assert p.run(at)=='go', "the focus was lost with the button that had it"
    seen = []
    for _ in range(6):
        p.key('Tab')
        seen.append(p.run(at))
    assert {'class','strength','print','SUMMARY'}<=set(seen), seen

@chromium
@pytest.mark.slow
def test_the_print_is_one_sheet(browser, photo, tmp_path):
    "Of letter size, and of A4, with as much as a net has to say"
    page_run(net_file(tmp_path/'m.onnx', question=' '.join(['Is this eye dark?']*6), terms=' '.join(['Drawn by us.']*30), points=POINTS*2), tmp_path/'page')
    with served(tmp_path/'page') as url:
        p = opened(browser, url)
        read(p, photo)
        p.run("document.getElementById('go').click()")
        p.wait(f"{STATE}.textContent.includes('whole')")
        for w,h in ((8.5,11),(8.27,11.69)):
            pdf = base64.b64decode(p('Page.printToPDF', printBackground=False, paperWidth=w, paperHeight=h)['data'])
            assert len(re.findall(rb'/Type /Page\b', pdf))==1, (w, h)

# What each thing is called, by the browser's own tree for screen readers
@chromium
@pytest.mark.slow
def test_names_for_a_screen_reader(browser, site, photo):
    p = opened(browser, site)
    read(p, photo)
    p.run("document.getElementById('go').click()")
    p.wait(f"{STATE}.textContent.includes('whole')")
    p('Accessibility.enable')
    nodes = [o for o in p('Accessibility.getFullAXTree')['nodes'] if not o.get('ignored')]
    named = [(o['role']['value'], o.get('name', {}).get('value', '')) for o in nodes]
    for role in ('button','image','slider','combobox','table','heading','region'):
        got = [n for r,n in named if r.lower()==role or role=='image' and r in ('img','image')]
        assert got and all(got), (role, named)
    assert any('evidence' in n.lower() for r,n in named if r in ('img','image'))
    assert p.run('document.documentElement.lang')=='en'

@chromium
@pytest.mark.slow
@pytest.mark.parametrize('size,dark', [((400,800),False), ((400,800),True), ((1000,900),True)])
def test_phone_and_dark(browser, site, photo, size, dark):
    p = opened(browser, site, size=size, dark=dark)
    read(p, photo)
    p.run("document.getElementById('go').click()")
    p.wait(f"{STATE}.textContent.includes('whole')")
    assert p.run('document.documentElement.scrollWidth')<=size[0]
    worst = p.run("""(() => { // contrast of each line of text with what is behind it
      const rgb = s => s.match(/[\\d.]+/g).map(Number)
      const lum = c => { const [r,g,b] = c.slice(0, 3).map(o => { o /= 255; return o<=.03928 ? o/12.92 : ((o+.055)/1.055)**2.4 }); return .2126*r+.7152*g+.0722*b }
      let worst = [99, '']
      for (const e of document.querySelectorAll('p,h1,h2,h3,th,td,label,button:not(:disabled),summary,a,li')) {
        if (!e.offsetParent || !e.textContent.trim()) continue
        let b = e; while (b && rgb(getComputedStyle(b).backgroundColor)[3]===0) b = b.parentElement
        const [x, y] = [lum(rgb(getComputedStyle(e).color)), lum(rgb(getComputedStyle(b || document.body).backgroundColor))].sort((p, q) => q-p)
        const c = (x+.05)/(y+.05)
        if (c<worst[0]) worst = [c, e.outerHTML.slice(0, 80)]
      }
      return worst })()""")
    assert worst[0]>4.5, worst
    assert (p.run("getComputedStyle(document.body).backgroundColor")=='rgb(18, 24, 31)')==dark

@chromium
@pytest.mark.slow
def test_the_demo_of_the_docs_site(browser, tmp_path):
    "Made as the docs workflow makes it, but with a net that was hardly taught"
    res = subprocess.run([sys.executable, Path(__file__).parents[2]/'.ci/demo_page.py', tmp_path/'demo', '24', '1'], capture_output=True, text=True)
    assert res.returncode==0, res.stderr[-1500:]
    with served(tmp_path/'demo') as url:
        p = opened(browser, url)
        assert 'PHANTOM' in p.run("document.body.innerText") and 'Which disease does this OCT B-scan show?' in p.run("document.querySelector('h1').textContent")
        same_answer(read(p, tmp_path/'demo/phantom-2.png'), tmp_path/'demo/model.onnx', tmp_path/'demo/phantom-2.png', calibrated=True)
        p.run("document.getElementById('go').click()")
        p.wait(f"{STATE}.textContent.includes('whole')", 300)

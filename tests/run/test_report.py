"The report of a run folder: made again from its files, honest about what is missing, marked as phantom on every page"
import io, re, shutil, subprocess, sys
from html import unescape
from html.parser import HTMLParser
import numpy as np, pandas as pd, pytest
from jinja2 import UndefinedError
from PIL import Image
from scipy.special import expit, softmax
from sklearn import metrics as skm
from fundus_fastai.cli import main
from fundus_fastai.score.estimate import Estimate
from fundus_fastai.score.scores import score
from fundus_fastai.score.patients import score_as
from fundus_fastai.score.kinds import get_kind
from fundus_fastai.run import report
import fundus_fastai.vision.tasks # late in the library, and its libraries warn of each other
from fundus_fastai.run.report import (Report, check_parts, flow_counts, jpeg_bytes, model_card, picture_parts, remake_report,
                                      rescore_run, templates, terms_page, write_pages, write_report)
from fundus_fastai.core import DataError, read_json, write_json
from fundus_fastai.data.catalog import data_terms
from fundus_fastai.score.calibration import add_calibration
from browser import EXE, Chromium
from heard import Page
from made import CLASSES, binary, class_table

pytestmark = [pytest.mark.filterwarnings('error'), # no warning may be spilled, but for a pipe that another test's process left open
              pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')]
KINDS = dict(category='oct', multilabel='diseases', number='age', grades='dr', ordered='dr_ordered', both='sex_age')
DATE = '2026-01-31'

def answers(kind, n=60, seed=0):
    "A table of predictions of one kind: two images of each patient"
    rng = np.random.default_rng(seed)
    who = np.arange(n)//2
    d = pd.DataFrame(dict(path=[f'{seed}-{i}.png' for i in range(n)], patient=[f'{seed}{w:03}' for w in who], eye=['L','R']*(n//2)))
    if kind in ('category','grades','both'):
        names = dict(category=['CNV','DME','NORMAL'], grades=['0','1','2','3'], both=['female','male'])[kind]
        y = rng.integers(0, len(names), n//2)[who]
        p = softmax(2*np.eye(len(names))[y]+rng.normal(size=(n,len(names))), axis=1)
        d['target'] = np.array(names)[y]
        d[[f'p_{c}' for c in names]] = p
        if kind=='both': d['target_age'] = rng.integers(20, 90, n//2)[who]*1.; d['pred_age'] = d.target_age+rng.normal(0, 9, n)
    elif kind=='multilabel':
        for c,q in [('haze',.5),('drusen',.3)]:
            d[f'target_{c}'] = (rng.random(n)<q).astype(int); d[f'p_{c}'] = expit(2*d[f'target_{c}']-1+rng.normal(size=n))
    else:
        d['target'] = rng.integers(0, 5, n//2)[who]*1. if kind=='ordered' else rng.integers(20, 90, n//2)[who]*1.
        d['pred'] = d.target+rng.normal(0, .6 if kind=='ordered' else 8, n)
    if kind not in ('number','both'): d['sex'],d['age'] = rng.choice(['f','m'], n//2)[who],rng.integers(20, 90, n//2)[who]*1.
    return d

@pytest.fixture
def run(tmp_path, request, finished):
    "A copy of a finished run of simulated answers: the folder, and its kind"
    kind = getattr(request, 'param', 'category')
    shutil.copytree(finished(kind), tmp_path, dirs_exist_ok=True)
    return tmp_path/'run',kind

@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    "Make a run of each kind once"
    made = {}
    def f(kind):
        if kind not in made: make_run(made.setdefault(kind, tmp_path_factory.mktemp(kind)), kind)
        return made[kind]
    return f

@pytest.fixture
def quick(monkeypatch):
    "Leave out the drawing where only words and numbers are looked at"
    monkeypatch.setattr('fundus_fastai.run.report.png_bytes', lambda fig: b'no picture')

def make_run(tmp_path, kind):
    test,valid,out = answers(kind),answers(kind, seed=1),tmp_path/'run'
    out.mkdir(); (tmp_path/'images').mkdir()
    for i,p in enumerate(test.path): Image.fromarray(np.full((64,96), i, np.uint8)).save(tmp_path/'images'/p)
    op = get_kind(kind).choose(valid)
    s = add_calibration(score_as(kind, test, op, valid=valid, n_boot=40, task=KINDS[kind], source='phantom', arch='resnet10t', note='A note.'), valid)
    s.save(out); valid.to_csv(out/'validation.csv', index=False)
    pd.DataFrame(dict(epoch=[0,1], train_loss=[1,.5], valid_loss=[1,.6], accuracy=[.5,.6])).to_csv(out/'history.csv', index=False)
    both = pd.concat([answers(kind, seed=2).assign(split='train'), valid.assign(split='valid'), test.assign(split='test')])
    names = [c[7:] for c in both if c.startswith('target_')]
    both['label'] = both.target if 'target' in both else [' + '.join(c for c in names if r[f'target_{c}']) or 'none' for _,r in both.iterrows()]
    both[['path','patient','eye','split','label']].to_csv(out/'split.csv', index=False)
    config = dict(task=KINDS[kind], arch='resnet10t', source='phantom', data='kermany2018', note='A note.', operating=op,
                  read=dict(images=190, patients=95, why='no grade'), answer=dict(kind='category' if kind=='grades' else kind))
    write_json(out/'config.json', config)
    maps = ('Where it looks', ['maps', pd.DataFrame(dict(image=['a'], lift=[1.5]))], [(np.eye(60), 'a map')])
    write_pages(out, s, tmp_path/'images', config=config, history=pd.read_csv(out/'history.csv'), sections=[maps])

def undated(text): return re.sub(r'\d{4}-\d\d-\d\d', DATE, text)
def sections(html): return re.findall('<h2>(.*?)</h2>', html)
def topics(html):
    "The rows of the last section: topic, asked by, where it stands, what stays open"
    table = re.search('<table class="topics">(.*?)</table>', html, re.S)[1]
    return [re.findall('<t[dh].*?>(.*?)</t[dh]>', o) for o in re.findall('<tr>(.*?)</tr>', table, re.S)[1:]]
def page(out): return (out/'report.html').read_text(encoding='utf-8')

@pytest.mark.parametrize('run', KINDS, indirect=True)
def test_remade_from_its_files(run):
    "Without report.html and without metrics.json the folder gives both back, to the last byte"
    out,kind = run
    html,m = page(out),read_json(out/'metrics.json')
    (out/'report.html').unlink()
    derived = ('metrics','counts','confusion','calibration','operating_points','by_patient','n_images','n_patients')
    write_json(out/'metrics.json', {k:v for k,v in m.items() if k not in derived})
    s = remake_report(out)
    assert read_json(out/'metrics.json')==m and undated(page(out))==undated(html)
    if kind not in ('number','ordered'): assert {'brier','ece','temperature'} <= set(s.metrics)

@pytest.mark.parametrize('run', KINDS, indirect=True)
def test_what_a_screen_reader_says(run):
    "Tables name their columns and rows and are scrolled by keyboard; an interval is called one; the confusion matrix is told in words"
    out,kind = run
    html = page(out)
    p = Page(html)
    assert p.faults==[] and p.title.startswith('PHANTOM: ')
    frames = re.findall('<div class="wide"(.*?)><table', html)
    assert len(frames)==html.count('<table') and all('tabindex="0" role="group" aria-label="Table: ' in o for o in frames)
    cards = re.findall('<div class="card">(.*?)</div>', html)
    assert cards and all('95 % interval: </span>' in o for o in cards) and 'macro F1, macro' not in html
    told = [o for o in p.alts if o.startswith('Confusion matrix')]
    assert len(told)==html.count('<figcaption><span class="mark">PHANTOM</span> Confusion: ')==(kind in ('category','grades','both'))
    for row in told[0].split('True ')[1:] if told else ():
        truth,_,read = row.partition(': ')
        n = read_json(out/'metrics.json')['confusion']
        assert {k:int(v) for v,k in re.findall(r'(\d+) read as (\w+)', read)}=={o['predicted']:o['images'] for o in n if o['target']==truth and o['images']}

def test_findings_are_heard_too(tmp_path):
    t = pd.DataFrame(dict(region=['disc'], share=[.1]))
    f = report.write_findings(tmp_path/'a.html', 'Regions', ['One.'], tables=[('By region',t)], source='phantom')
    assert Page(f.read_text()).faults==[]

@pytest.mark.skipif(EXE is None, reason="there is no Chromium: apt-get install chromium, or name one by FUNDUS_CHROMIUM")
def test_on_a_phone_columns_keep_their_names(run, tmp_path):
    "They were gone with what stood there, for who listens, too"
    out,_ = run
    with Chromium(tmp_path) as b:
        p = b.page((out/'report.html').as_uri(), size=(360,800))
        p.wait("document.readyState=='complete'")
        p('Accessibility.enable')
        named = [(o['role']['value'], o.get('name', {}).get('value', '').lower()) for o in p('Accessibility.getFullAXTree')['nodes'] if 'role' in o]
        for o in ('95 % interval','where in this report'): assert ('columnheader',o) in named
        assert ('rowheader','accuracy') in named
        assert p.run("document.documentElement.scrollWidth")<=360

@pytest.mark.parametrize('run', KINDS, indirect=True)
def test_without_metrics_json(run):
    "config.json says what the scores were of"
    out,kind = run
    m = read_json(out/'metrics.json')
    (out/'metrics.json').unlink()
    s = rescore_run(out)
    assert (s.kind.name,s.task,s.source,s.split,s.note)==(kind,KINDS[kind],'phantom','test','A note.')
    for k,v in m['metrics'].items(): assert s.metrics[k].value==pytest.approx(v['value'], nan_ok=True), k

def test_numbers_are_those_of_the_table(run):
    "Brier score and a threshold's sensitivity of the page, computed from predictions.csv by others"
    out,_ = run
    p = pd.read_csv(out/'predictions.csv', dtype=dict(patient=str))
    names = sorted(c[2:] for c in p if c.startswith('p_'))
    q = p[[f'p_{c}' for c in names]].to_numpy()
    m = read_json(out/'metrics.json')
    assert m['metrics']['brier']['value']==pytest.approx(((q-pd.get_dummies(p.target)[names].to_numpy())**2).sum(1).mean())
    o = m['operating_points'][0]
    hit = p[f"p_{o['question']}"]>o['threshold']
    assert o['sensitivity']['value']==pytest.approx(skm.recall_score(p.target==o['question'], hit))
    assert f">{m['metrics']['brier']['value']:.3f}<" in page(out) and f"{o['threshold']:.3f}" in page(out)

def test_other_predictions_give_another_report(run, quick):
    "The page follows predictions.csv, and pictures of images that are no longer the most wrong ones go"
    out,_ = run
    before = page(out)
    p = pd.read_csv(out/'predictions.csv', dtype=dict(patient=str))
    cols = [c for c in p if c.startswith('p_')]
    p[cols] = p[cols].to_numpy()[:,[1,2,0]]
    p.to_csv(out/'predictions.csv', index=False)
    remake_report(out)
    a,b = (re.search(r'<h2>Most wrong.*?</section>', o, re.S)[0] for o in (before,page(out)))
    assert '<img' in a and '<img' not in b and page(out)!=before and 'a map' in page(out)

ALL = ['What was asked','Data and split','Audit of the data','Results','Pictures of the results','Calibration','Operating points','Decision curve','By patient',
       'Subgroups','Training','Most wrong','Where it looks','How the numbers were made, and their limits','How to cite','Reporting checklists']

@pytest.mark.parametrize('run', KINDS, indirect=True)
def test_what_it_holds(run):
    out,kind = run
    html,no = page(out),{'number':{'Calibration','Operating points','Decision curve'}, 'ordered':{'Calibration','Decision curve'}, 'both':{'Decision curve'}}.get(kind, set())
    assert sections(html)==[o for o in ALL if o not in no]
    assert '190 images, 95 patients' in html and 'no grade' in html and '10 images, 5 patients' in html and 'fundus audit' in html
    assert html.count('<figcaption>')==html.count('>PHANTOM</span>') and not re.findall(r'https?://|<script|src="(?!data:)', html)
    assert 'no substitute for the checklists' in html and 'fundus_fastai' in html and 'Not a medical device' in html
    where = {o for *_,o,_ in topics(html)}-{''}
    assert where<=set(sections(html)) and len(where)>=6

@pytest.mark.parametrize('lost,gone', [('history.csv','Training'), ('split.csv','Audit of the data'), ('report.json','Where it looks'),
                                       ('validation.csv','Operating points'), ('config.json',None), ('README.md',None)])
def test_a_file_is_missing(run, quick, lost, gone):
    "What needs the file goes, the rest stays"
    out,_ = run
    (out/lost).unlink()
    remake_report(out)
    left = sections(page(out))
    assert gone not in left and set(ALL)-{gone}<=set(left)

def test_a_report_waits_for_no_net(run):
    "What reads tables, and pages that only borrow a template, import neither torch nor fastai"
    out,_ = run
    code = ("import sys; import fundus_fastai.quiz.results, fundus_fastai.anatomy.label; from fundus_fastai.cli import main; "
            "status = main(['report',sys.argv[1]]); print(status, [o for o in ('torch','fastai','timm') if o in sys.modules])")
    r = subprocess.run([sys.executable,'-W','ignore','-c',code,str(out)], capture_output=True, text=True)
    assert r.stdout.endswith('\n0 []\n'), (r.stdout[-300:], r.stderr[-300:])

def test_the_question_is_kept(run, quick):
    "Runs of before have none in report.json: it is asked of the task, as it is where the file was spoiled"
    out,_ = run
    remake_report(out)
    before,kept = page(out),read_json(out/'report.json')
    assert kept['question'] and kept['question'].split('?')[0] in before
    for old in ({}, dict(question=7)):
        write_json(out/'report.json', {k:v for k,v in kept.items() if k!='question'}|old)
        remake_report(out)
        assert undated(page(out))==undated(before)

def test_what_cannot_be_remade(run, tmp_path):
    out,_ = run
    for f,says in [('nothing','is no folder'), ('images','no predictions.csv')]:
        with pytest.raises(DataError, match=says): remake_report(tmp_path/f)
    for f in ('metrics.json','config.json'): (out/f).unlink()
    with pytest.raises(DataError, match='neither metrics.json nor config.json'): remake_report(out)

def test_a_folder_without_any_of_the_pictures_is_refused(run, quick, tmp_path, capsys):
    "Those that were kept stay, and a folder that has them is taken"
    out,_ = run
    before,kept = page(out),(out/'report.json').read_bytes()
    (tmp_path/'empty').mkdir()
    for o in ('empty','nosuch'):
        assert main(['report',str(out),'--images',str(tmp_path/o)])==1
        assert f"none of the pictures is in {tmp_path/o}: name the folder of the run's data with --images DIR" in capsys.readouterr().err
    assert (page(out),(out/'report.json').read_bytes())==(before,kept)
    assert main(['report',str(out),'--images',str(tmp_path/'images')])==0

@pytest.mark.parametrize('name,text,says', [('split.csv','a,b\n1,2\n','no column path'), ('report.json','{"parts":[{"title":1}]}','damaged'),
    ('report.json','[]','damaged'), ('report.json','{','not valid JSON'), ('audit.json','{"a":1}','no list of checks'),
    ('predictions.csv','path,patient,target,p_CNV,p_DME,p_NORMAL\na,1,CNV,.5,.9,.1\n','do not sum to one'),
    ('predictions.csv','path,patient,target,p_CNV,p_DME,p_NORMAL\na,1,CNV,.5,,.5\n','not a number')])
def test_damaged_files_are_named(run, quick, name, text, says):
    out,_ = run
    before = page(out)
    (out/name).write_text(text)
    with pytest.raises(DataError, match=says): remake_report(out)
    assert page(out)==before

def test_an_audit_is_told(run, quick):
    out,_ = run
    for a in ([dict(check='near copies <b>', found=3, of=60, remark='see audit.csv')], dict(rows=[dict(check='near copies <b>', found=3)], more=1)):
        write_json(out/'audit.json', a)
        remake_report(out)
        assert 'near copies &lt;b&gt;' in page(out) and 'No audit' not in page(out)

def test_shortcuts_that_were_measured_are_not_denied(run, quick):
    out,_ = run
    assert 'labels and shortcuts were not looked for' in page(out)
    found = dict(what='border', auc=.7, low=.6, high=.8, guess=.5, crossed=False)
    kept = read_json(out/'report.json')
    write_json(out/'report.json', kept|dict(config=kept['config']|dict(shortcuts=[found])))
    remake_report(out)
    assert 'from the border alone' in page(out) and 'labels and shortcuts were not' not in page(out)
    assert 'other shortcuts than the cheap ones under Results were not looked for' in page(out)

def test_a_leak_is_counted_from_the_split(run, quick):
    out,_ = run
    d = pd.read_csv(out/'split.csv', dtype=str)
    d.loc[d.split=='test','patient'] = d.patient[d.split=='train'].to_numpy()
    d.to_csv(out/'split.csv', index=False)
    remake_report(out)
    assert re.search(r'patients on more than one side</th>\s*<td>30</td>', page(out))

def test_kept_pictures_bring_no_program(run, quick):
    "A stranger's run folder cannot put markup into the page"
    out,_ = run
    kept = read_json(out/'report.json')
    evil = '"><script>alert(1)</script>'
    kept['parts'][1]['figures'][0]['caption'] = kept['parts'][1]['title'] = kept['parts'][1]['body'][0] = evil
    kept['parts'][1]['body'][1] = dict(columns=[evil], rows=[[evil]])
    kept['config'] = {evil:evil}; kept['splits'] = dict(columns=[evil], rows=[[evil]])
    write_json(out/'report.json', kept)
    remake_report(out)
    assert '<script' not in page(out) and '&lt;script' in page(out)
    kept['parts'][1]['figures'][0]['code'] = evil
    with pytest.raises(DataError, match='damaged'): check_parts(kept['parts'])

@pytest.mark.parametrize('at,bad', [((),{}), ((),None), ((1,),'x'), ((1,'title'),3), ((1,'body',0),3), ((1,'body',1),dict(rows=[])), ((1,'figures',1),['kind','type','code','caption']),
    ((1,'figures',1,'kind'),'x" onload="y'), ((1,'figures',1,'type'),'svg+xml'), ((1,'figures',1,'code'),'"><script>'), ((1,'figures',1,'caption'),None)])
def test_damage_anywhere_in_kept_pictures_is_told(at, bad):
    "In the last figure as in the first"
    figure = dict(kind='scan', type='png', code='aGk=', caption='an eye')
    one = dict(title='Maps', body=['text',dict(columns=['a'], rows=[[1]])], figures=[figure,dict(figure)])
    root = [[one,dict(one, body=[*one['body']], figures=[figure,dict(figure)])]]
    assert check_parts(root[0]) is root[0]
    way,o = [0,*at],root
    for k in way[:-1]: o = o[k]
    o[way[-1]] = bad
    with pytest.raises(DataError, match='pictures kept for the report are damaged'): check_parts(root[0])

def test_a_note_on_absent_labels_stands_once(tmp_path):
    d = answers('multilabel').assign(target_haze=0)
    s = score_as('multilabel', d, n_boot=40, task='diseases', note='A note.')
    s.save(tmp_path)
    for _ in range(2):
        again = rescore_run(tmp_path)
        assert again.note==s.note and again.note.startswith('A note.') and again.note.count('one side only')==1
        again.save(tmp_path)

def test_a_line_through_groups_is_of_the_same_quantity(monkeypatch):
    "Groups are compared by the labels that all of them have: the mean over all labels is no line for them"
    seen = []
    monkeypatch.setattr(report, 'drawn', lambda f, size, *args, overall, **k: seen.append(overall))
    monkeypatch.setattr(report, 'picture', lambda *args, **k: '')
    scores = [score_as(k, answers(k), n_boot=20) for k in ('multilabel','category')]
    for s in scores: report.subgroups_of(s)
    assert seen==[None, scores[1].metrics['auc'].value]

def test_real_data_bear_no_mark(run, quick):
    out,_ = run
    m = read_json(out/'metrics.json')
    write_json(out/'metrics.json', m|dict(source='local'))
    (out/'report.json').unlink(); (out/'config.json').unlink()
    remake_report(out)
    assert 'phantom' not in re.sub('<style>.*?</style>', '', page(out), flags=re.S).lower()

def test_further_metrics_do_no_harm(run, quick):
    "A metric that this library does not know yet is shown under its own name"
    out,_ = run
    s = rescore_run(out)
    s.metrics |= dict(mcc=Estimate(-.2, -.5, .1, 'patient bootstrap'), new_one=Estimate(3., np.nan, np.nan, 'x'))
    html = Report(s).html()
    assert 'MCC' in html and 'new one' in html and '-0.500 to 0.100' in html

def test_phantom_stands_in_the_picture():
    plain,marked = (np.asarray(Image.open(io.BytesIO(jpeg_bytes(np.full((80,120), 100, np.uint8), phantom=k)))).astype(int) for k in (False,True))
    changed = np.argwhere(abs(plain-marked)>40)
    assert len(changed)>100 and changed[:,0].min()>50 and abs(plain-marked)[:50].max()<=8

@pytest.mark.parametrize('dtype,top', [(np.uint16,65535), (np.int32,255), (np.float32,1), (bool,1)])
def test_pictures_of_other_depths_keep_their_light(dtype, top):
    a = np.tile(np.linspace(0, top, 64), (64,1)).astype(dtype)
    got = np.asarray(Image.open(io.BytesIO(jpeg_bytes(a)))).astype(float)
    assert np.abs(got-a.astype(float)*255/top).max()<8

def test_flow_adds_up():
    d = pd.DataFrame(dict(patient=list('aabbccdd'), split=['train']*4+['valid']*2+['test']*2))
    flow = flow_counts(d, dict(images=11, patients=6))
    steps = [flow['read'], flow['out'], *(flow['sides'][o] for o in ('train','valid','test'))]
    assert [o['images'] for o in steps]==[11,3,4,2,2] and [o['patients'] for o in steps]==[6,2,2,1,1]

@pytest.mark.skipif(not (shutil.which('chromium') and shutil.which('pdftotext')), reason='needs chromium and pdftotext')
def test_every_printed_page_says_phantom(run, tmp_path):
    out,_ = run
    flags = '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'
    subprocess.run(['chromium', *flags.split(), f'--user-data-dir={tmp_path}/profile', '--no-pdf-header-footer', f'--print-to-pdf={tmp_path}/r.pdf',
                    f'file://{out}/report.html'], check=True, capture_output=True, timeout=120)
    text = subprocess.run(['pdftotext', '-layout', tmp_path/'r.pdf', '-'], check=True, capture_output=True, text=True).stdout
    pages = text.split('\f')[:-1]
    assert len(pages)>=5 and all('PHANTOM DATA' in o for o in pages)

@pytest.mark.skipif(EXE is None, reason='needs chromium')
def test_what_firefox_prints_says_phantom_and_ends_no_page_with_a_title(run, tmp_path):
    "It knows neither margin boxes nor `break-after`: what is fixed comes again on every page, and a title takes room below it along"
    out,_ = run
    assert '@top-' not in (out/'report.html').read_text()
    with Chromium(tmp_path/'home') as b:
        p = b.page((out/'report.html').as_uri())
        p('Emulation.setEmulatedMedia', media='print')
        look = "(o => [o.position, o.writingMode, o.right])(getComputedStyle(document.querySelector('.phantom')))"
        assert p.wait(look)==['fixed','vertical-rl','0px']
        edges = p.run("['main','.phantom'].map(o => document.querySelector(o).getBoundingClientRect()).map((o, k) => k ? o.left : o.right)")
        assert edges[0]<=edges[1], f"the bar hides what is beside it: {edges}"
        ends = p.run("[...document.querySelectorAll('h2')].map(o => [getComputedStyle(o).breakInside, getComputedStyle(o, '::after').height])")
        assert len(ends)>5 and all(o[0]=='avoid' and float(o[1][:-2])>100 for o in ends), ends

# --- the page itself

@pytest.fixture
def preds(): return class_table()

LOADS = r'(?:src|href|srcset|action|data)\s*=\s*"(?!data:)[^"]*"|<script|<link|<iframe|@import|url\(|https?://'

def snow(path): return np.random.default_rng(len(path)).integers(0, 255, (20,30), dtype=np.uint8)

def maps(caption='a map', title='Maps', body='text'): return [(title, body, [(snow('a'), caption)])]

def test_report_is_one_file(preds, tmp_path):
    s = score(preds, source='phantom', task='oct', arch='resnet50')
    h = pd.DataFrame(dict(epoch=[0,1], train_loss=[1,.5], valid_loss=[1,.6], accuracy=[.5,.6]))
    made_of = dict(history=h, parts=picture_parts(s, maps(), snow), date=DATE)
    f = write_report(tmp_path/'r', s, **made_of)
    text = f.read_text(encoding='utf-8')
    assert f.name=='report.html' and not re.findall(LOADS, text)
    assert text.count('<figcaption>')==text.count('>PHANTOM</span>')>=8 and 'Not a medical device' in text
    assert f'{s.n_images} images of {s.n_patients} patients' in text
    assert write_report(tmp_path/'b.html', s, **made_of).read_text(encoding='utf-8')==text
    assert 'PHANTOM' not in Report(score(preds, source='local')).html()

HOSTILE = ['<b>7</b>.png', '{{ 7*7 }}', '{% raw %}', '{# gone #}', '</script><script>alert(1)</script>', '</style></title><img src=x onerror=1>',
           '"><svg onload=1>', "' onload='x", 'a & b &lt; c', '$\\frac', 'a | b ``` c']

def report_of(preds, name):
    "A report in which everything that can come from outside is called `name`"
    d = preds.assign(path=[f'{i}{name}' for i in range(len(preds))], patient=preds.patient+name, camera=['one',name]*(len(preds)//2))
    d = d.rename(columns={'p_CNV':f'p_{name}'}).replace({'target':{'CNV':name}})
    s = score(d, task=name, arch=name, source=name, n_boot=20, note=name)
    h = pd.DataFrame({'epoch':[0,1], 'train_loss':[1.,.5], name:[.1,.2]})
    side = d[['path','patient']].assign(split=['train','test']*(len(d)//2), label=d.target)
    parts = picture_parts(s, maps(name, name, [name, pd.DataFrame({name:[name]})]), snow)
    return Report(s, title=name, question=name, history=h, config={name:name, 'data':name, 'read':dict(images=999, patients=99, why=name)},
                  splits=pd.DataFrame({'split':[name]}), split=side, audit=[dict(check=name, found=1, of=2, remark=name)], parts=parts)

class Shape(HTMLParser):
    "The tags of a page with the names of their attributes, and the text between them"
    def __init__(self, page): super().__init__(); self.tags,self.words = [],[]; self.feed(page)
    def handle_starttag(self, tag, attrs): self.tags.append((tag, *(k for k,_ in attrs)))
    def handle_endtag(self, tag): self.tags.append(f'/{tag}')
    def handle_comment(self, data): self.tags.append(('comment', data))
    def handle_data(self, data): self.words.append(data)

@pytest.fixture(scope='module')
def plain_shape(): return Shape(report_of(class_table(), 'harmless').html()).tags

@pytest.mark.parametrize('name', HOSTILE)
def test_a_name_is_no_markup(preds, quick, plain_shape, name):
    "Whatever things are called, the page is built of the same tags, and the name is read as it was written"
    page = Shape(report_of(preds, name).html())
    assert page.tags==plain_shape
    assert ''.join(page.words).count(name)>=39

@pytest.mark.parametrize('name', HOSTILE)
def test_a_name_is_no_markup_in_the_card(preds, name):
    "Nor is it in Markdown: no tag, no cell and no fence more than there are"
    card,other = (report_of(preds, o).card() for o in (name,'harmless'))
    text = card.split('## Settings')[0]
    assert '<' not in re.sub('```.*?```', '', text, flags=re.S) and [len(re.findall('^```', o, re.M)) for o in (card,other)]==[4,4]
    bars = [[len(re.findall(r'(?<!\\)\|', l)) for l in o.splitlines() if l.startswith('|')] for o in (card,other)]
    assert bars[0]==bars[1] and name in unescape(text)

def test_a_word_that_is_missing_is_an_error():
    "A template that asks for what it is not given fails, and writes no hole"
    with pytest.raises(UndefinedError): templates().from_string('{{ s.auc }}').render(s={})

def test_report_of_poor_data(preds):
    def gone(path): raise FileNotFoundError(path)
    s = score(preds)
    assert 'cannot be read' in Report(s, parts=picture_parts(s, read=gone)).html()
    assert 'undefined: one class only' in Report(score(preds[:3])).html()
    perfect = preds.assign(**{f'p_{c}': (preds.target==c).astype(float) for c in CLASSES})
    assert 'No image of this test set was read wrongly' in Report(score(perfect)).html()

def test_the_most_wrong_come_first(preds):
    "Of classes those whose truth was least believed, of numbers those that were missed by most"
    p = preds[[f'p_{c}' for c in CLASSES]].to_numpy()
    true = np.array([CLASSES.index(o) for o in preds.target])
    believed = p[range(len(p)),true]
    order = [i for i in np.argsort(believed, kind='stable') if p[i].argmax()!=true[i]]
    years = answers('number')
    missed = (years.pred-years.target).abs().sort_values(ascending=False).index
    for s,df,want,says in ((score(preds),preds,order,'true class got the least probability'), (score_as('number', years, task='age'),years,missed,'truth was missed by most')):
        got = report.wrong_part(s, n=4)
        assert says in str(got['body']) and [o[0].split('. ')[-1] for o in got['body'][1]['rows']]==[f'{df.path[i]}, patient {df.patient[i]}' for i in want[:4]]

def test_card(preds, tmp_path):
    s = score(preds, source='phantom', task='oct', arch='resnet50')
    text = model_card(tmp_path, s, config=dict(size=224)).read_text()
    for o in ('PHANTOM', 'Not a medical device', f"{s.metrics['auc'].value:.3f}", '120 images of 40 patients', 'load_model', '"size": 224'):
        assert o in text, o

@pytest.mark.parametrize('name', ['[here](http://a.bad)','![x](https://a.bad/p.png)','http://a.bad','www.a.bad'])
def test_markdown_in_a_name_is_inert(name):
    "No link and no remote picture, in the card's prose and tables"
    from fundus_fastai.run.report import markdown_text
    text = str(markdown_text(name))
    assert not re.search(r'[\[\]`*<>|~\\]|://|www\.', text)

def test_a_temperature_at_the_bound_is_said(run, quick):
    out,_ = run
    v = pd.read_csv(out/'validation.csv', dtype={'patient':str})
    for c in ('CNV','DME','NORMAL'): v[f'p_{c}'] = np.where(v.target==c, .5, .25)
    v.to_csv(out/'validation.csv', index=False)
    s = remake_report(out)
    page = (out/'report.html').read_text()
    model_card(out, s, config={})
    card = ' '.join((out/'README.md').read_text().split())
    assert 'It is no result: the search ended at its bound' in page
    assert 'The temperature 0.050 is no result: the search ended at its bound' in card and 'the bound of the search' in card
    assert read_json(out/'metrics.json')['calibration']['temperature']['at_bound'] is True

# --- the card

LIVE = ['<script>alert(1)</script>', '[x](javascript:alert(1))', '\\[x](javascript:alert(1))', '![x](http://a.b/c.png)', '<javascript:alert(1)>',
        '`code`', '**b** _i_ ~~s~~', '|a|b|', '# head', '- item', '---\nlicense: mit\ntags: [x]\n---', 'https://a.b www.a.b a@b.c', '&lt;b&gt;', '$$x$$']

def shown(md):
    "A card's Markdown as tokens: kinds without the texts, and the texts"
    import mistune
    tokens = mistune.create_markdown(renderer=None, plugins=['table','url','strikethrough','math'])(md)
    def walk(o):
        for t in o: yield t; yield from walk(t.get('children') or [])
    kinds,texts = [],[]
    for t in walk(tokens):
        if t['type']=='text': texts.append(t['raw'])
        else: kinds.append(t['type'])
    return [k for k,b in zip(kinds, [None,*kinds]) if (k,b)!=('softbreak','softbreak')],texts

def card_of(name):
    "Card and terms of a run whose every name is `name`"
    s = score_as('category', binary(), source='local', task='oct', arch=name, note=name)
    s.counts['class'] = s.classes[:] = [name, name+'2']
    splits = pd.DataFrame({'label':[name], 'train':['3 (2)']})
    config = dict(data='csv', source='local', terms=name, weights=name, evaluated=name, read=dict(images=5, patients=3))
    r = Report(s, title=name, question=name, config=config, splits=splits, date='2026-01-31')
    return r.card(),terms_page(r)

def test_the_card_begins_as_the_hub_wants_it():
    from huggingface_hub import ModelCard
    card = ModelCard(card_of('wet')[0])
    d = card.data
    assert (d.license,d.license_name,d.license_link,d.library_name,d.pipeline_tag)==('other','terms-of-its-data','TERMS.md','fundus_fastai','image-classification')
    assert [o.metric_type for o in d.eval_results]==['roc_auc','balanced_accuracy','accuracy'] and '95 % interval' in d.eval_results[0].metric_name
    assert 'Not a medical device' in card.text and 'not-a-medical-device' in d.tags and 'phantom' not in d.tags

def test_the_front_matter_tells_units_and_where_there_is_no_interval():
    "It had said: mean absolute error, 95 % interval , 2 patients"
    from huggingface_hub import ModelCard
    s = score_as('both', answers('both', 4), source='local', task='sex_age', arch='net')
    names = [o.metric_name for o in ModelCard(Report(s, config=dict(data='csv', source='local')).card()).data.eval_results]
    assert 'mean absolute error in years, no interval, 2 patients' in names and not [o for o in names if 'interval ,' in o]
    d = ModelCard(Report(score_as('number', answers('number'), source='phantom', task='age', arch='net')).card()).data
    assert d.pipeline_tag is None and d.eval_results is None and {'phantom','fundus'} <= {*d.tags} # a number is no class of an image

def test_the_front_matter_names_the_data_that_were_read():
    "Not those that taught, where others were evaluated"
    from huggingface_hub import ModelCard
    s = score_as('category', answers('category'), source='local', task='oct', arch='net')
    def told(**config): return ModelCard(Report(s, config=dict(source='local', **config)).card()).data.eval_results[0].dataset_type
    assert [told(data='eyepacs'), told(data='eyepacs', evaluated='aptos2019'), told(data=None)]==['eyepacs','aptos2019','own']

def test_sides_of_grades_are_counted_in_their_order():
    df = pd.DataFrame(dict(path=list('abcd'), patient=list('abcd'), label=[10.,2.,0.,2.], split=['train','train','valid','train']))
    assert report.split_table(df).label.tolist()==['0','2','10','all']
    assert report.split_table(df.assign(label=list('baab'))).label.tolist()==['a','b','all']

@pytest.mark.parametrize('name', LIVE)
def test_no_name_becomes_markup(name):
    "Nor does one that holds YAML become a field of the front matter"
    from huggingface_hub import ModelCard
    for (plain,live) in zip(card_of('plain'), card_of(name)):
        a,b = (shown(re.sub(r'```json.*?```', '', o.split('\n---\n', 1)[-1], flags=re.S))[0] for o in (plain,live))
        assert a==b
    d,e = (ModelCard(o[0]).data for o in (card_of('plain'),card_of(name)))
    assert (d.license,d.tags,len(d.eval_results))==(e.license,e.tags,len(e.eval_results)) and re.fullmatch(r'[\w .,()+-]+', e.model_name)

def test_markup_would_be_seen():
    for o in ('[x](javascript:alert(1))', '**b**', '<b>', 'https://www.a.b', '~~s~~', '`c`'): assert shown(f'Net: {o}.')[0]!=shown('Net: plain.')[0], o

def test_terms_follow_from_what_taught_the_net():
    "Not from the phantoms that it was evaluated on"
    s = score_as('category', binary(), source='phantom', task='dr')
    r = Report(s, config=dict(data='eyepacs', source='phantom', taught='kaggle', evaluated='csv'))
    assert 'rules of the competition' in r.card() and 'rules of the competition' in terms_page(r)
    assert 'license: other' in r.card() and 'license: apache-2.0' in Report(s, config=dict(data='eyepacs')).card()

@pytest.mark.parametrize('data', ['csv','folder','own'])
def test_a_card_is_read_by_others(data):
    "It said to whoever found it on the hub: 'Taught by: yours: a table of image files. Of csv, 9 images ...'"
    t = data_terms(dict(data=data, source='local', terms='Given for research'))
    assert 'yours' not in str(t) and t['said'].endswith('Given for research.') and t['name']==''
    assert data_terms(dict(data=data, source='local', terms='Really?'))['said'].endswith('Really?')
    r = Report(score_as('category', binary(), task='oct'), config=dict(data=data, source='local', read=dict(images=9)))
    assert 'yours' not in r.card()+terms_page(r) and 'Of these, 9 images' in r.card()

@pytest.mark.parametrize('names,asked', [(['CNV','DME','NORMAL'],['CNV','DME']), (['female','male'],[]), (['absent','present'],['present'])])
def test_a_decision_is_asked_of_findings_alone(names, asked):
    "Neither of what is normal nor of a sex; and the table's figures by counting"
    rng = np.random.default_rng(0)
    y = np.repeat(rng.integers(0, len(names), 60), 2)
    p = softmax(2*np.eye(len(names))[y]+rng.normal(size=(120,len(names))), axis=1)
    d = pd.DataFrame(dict(path=[f'{i}.png' for i in range(120)], patient=np.repeat(np.arange(60), 2).astype(str), eye=['L','R']*60, target=np.array(names)[y]))
    s = score(d.assign(**{f'p_{c}':o for c,o in zip(names, p.T)}), n_boot=100)
    s = add_calibration(s)
    found = report.decision_curves(s, report.questions_of(s))
    assert sorted(k for k,_ in found.get('figures', []))==asked
    for r in found.get('table', pd.DataFrame()).itertuples():
        ill,hit = d.target==r.question,s.preds[f'p_{r.question}']>=float(r.threshold[:-2])/100
        odds = float(r.threshold[:-2])/(100-float(r.threshold[:-2]))
        assert float(r[3].split()[0])==pytest.approx(100*((ill&hit).mean()-(~ill&hit).mean()*odds), abs=.051)
        assert float(r[4])==pytest.approx(100*(ill.mean()-(~ill).mean()*odds), abs=.051)

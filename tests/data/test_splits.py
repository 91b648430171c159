"Properties of splits, their files, and what is refused"
import os, shutil
from pathlib import Path
import numpy as np, pandas as pd, pytest
from hypothesis import given, settings, strategies as st
from fundus_fastai.core import DataError, LeakError, sha256
from fundus_fastai.data.audit import audit
from fundus_fastai.data.splits import (check_split, other_pictures, patient_strata, published_split, read_split,
                                       save_split, split_hash, split_patients, with_valid)
from fundus_fastai.image.hospital import patient_digest, patient_key, pseudonym
from fundus_fastai.run.folder import drop_seen_patients, same_names
from made import eyes

@st.composite
def frames(draw):
    n,k = draw(st.integers(5,40)),draw(st.integers(2,5))
    r = np.random.default_rng(draw(st.integers(0,10**6)))
    p = r.dirichlet(np.full(k, draw(st.sampled_from([.3,1.,10.]))))
    rows = [(f'/d/{i}-{j}.png', f'p{i}', 'abcde'[r.choice(k, p=p)]) for i in range(n) for j in range(r.integers(1,
        draw(st.integers(2,5))))]
    return pd.DataFrame(rows, columns=['path','patient','label'])

@settings(max_examples=60, deadline=None)
@given(frames(), st.integers(0,5), st.sampled_from([(.2,.2),(.1,.3),(0,.25),(.25,0),(.4,.4)]))
def test_split_properties(df, seed, shares):
    valid,test = shares
    if df.label.nunique()<2:
        with pytest.raises(DataError): split_patients(df, valid, test, seed=seed)
        return
    sides = ['train'] + ['valid']*(valid>0) + ['test']*(test>0)
    try: s = split_patients(df, valid, test, seed=seed)
    except DataError as e:
        assert 'leave none for' in str(e) and patient_strata(df).value_counts().max()<len(sides)
        return
    assert set(s.split)==set(sides)
    assert (s.groupby('patient').split.nunique()==1).all() and set(s.split) <= set(sides)
    assert s.drop(columns='split').equals(df)
    assert set(s[s.split=='train'].label)==set(df.label)
    n = s.drop_duplicates('patient').split.value_counts()
    for k,v in (('valid',valid),('test',test)): assert abs(n.get(k,0)-v*n.sum()) <= max(3, df.label.nunique())
    strata = patient_strata(df)
    for c,g in strata.groupby(strata):
        if len(g)>=len(sides): assert set(s[s.patient.isin(g.index)].split)==set(sides)
    again = split_patients(df.sample(frac=1, random_state=seed), valid, test, seed=seed).sort_index()
    assert again.split.equals(s.split)

def test_no_side_is_left_empty():
    "Four patients of two classes went to training whole, and training then asked for images"
    df = pd.DataFrame([(f'/{i}.png', f'p{i}', 'ab'[i%2]) for i in range(4)], columns=['path','patient','label'])
    with pytest.raises(DataError, match='4 patients of 2 classes leave none for test and valid: a class of at least 3 patients'): split_patients(df)
    assert set(split_patients(df, .3, 0).split)=={'train','valid'}

def test_a_side_that_is_not_asked_for_needs_no_patient():
    df = pd.DataFrame([(f'/{i}{c}.png', f'p{i}', c) for i in range(2) for c in 'ab'], columns=['path','patient','label'])
    assert split_patients(df, .5, 0).groupby('patient').split.first().sort_values().tolist()==['train','valid']

def test_classes_of_two_patients_fill_all_sides():
    "Of ten such classes one patient each is for training, and the ten others are dealt as one class"
    df = pd.DataFrame([(f'/{c}{i}', f'{c}{i}', c) for c in 'abcdefghij' for i in range(2)], columns=['path','patient','label'])
    for seed in range(5):
        s = split_patients(df, seed=seed)
        assert s.split.value_counts().to_dict()==dict(train=16, valid=2, test=2) and set(s.label[s.split=='train'])==set('abcdefghij')

def test_a_split_is_kept_where_a_picture_is_missing_or_a_leak_allowed(tmp_path):
    for k in range(3): (tmp_path/f'{k}.png').write_bytes(b'%d'%k)
    df = pd.DataFrame([(f'{k}.png', f'p{k%3}', 'train' if k<3 else 'test') for k in range(4)], columns=['path','patient','split'])
    with pytest.raises(LeakError, match='p0'): save_split(df, tmp_path/'split.csv', tmp_path)
    assert not (tmp_path/'split.csv').exists()
    df = df.assign(path=[df.path[0], *(str(tmp_path/o) for o in df.path[1:])]) # one told from the folder already
    t = pd.read_csv(save_split(df, tmp_path/'split.csv', tmp_path, allow_leak=True), keep_default_na=False)
    assert t.path.tolist()==[f'{k}.png' for k in range(4)] and t.split.tolist()==['train']*3+['test']
    assert t.sha256[1:].tolist()==[sha256(df.path[1]), sha256(df.path[2]), '']

def test_other_pictures_under_the_same_names(tmp_path):
    for k in range(4): (tmp_path/f'{k}.png').write_bytes(b'%d'%k)
    df = pd.DataFrame([(str(tmp_path/f'{k}.png'), f'p{k}', 'train') for k in range(4)], columns=['path','patient','split'])
    rows = pd.read_csv(save_split(df, tmp_path/'split.csv', tmp_path), dtype=str, keep_default_na=False)
    assert other_pictures(rows, tmp_path)==[] and other_pictures(rows.drop(columns='sha256'), tmp_path)==[]
    assert other_pictures(rows.assign(sha256=''), tmp_path)==[] # nobody knew them
    (tmp_path/'2.png').write_bytes(b'other')
    (tmp_path/'3.png').unlink()
    assert other_pictures(rows, tmp_path)==['2.png','3.png']

def test_every_class_on_each_side():
    r = np.random.default_rng(1)
    for seed in range(20):
        rows = [(f'/{i}-{j}', f'p{i}', r.choice(['A']*12+['B']*5+['C'])) for i in range(120) for j in range(3)]
        df = pd.DataFrame(rows, columns=['path','patient','label'])
        n = df.groupby('label').patient.nunique()
        s = split_patients(df, seed=seed)
        assert all(s[s.label==c].split.nunique()==3 for c in n.index[n>=3])

def test_a_patient_counts_for_the_rarest_label():
    df = pd.DataFrame([('p1','common'), ('p1','rare'), ('p2','common'), ('p3','common'), ('p4',None), ('p4','common')], columns=['patient','label'])
    assert patient_strata(df).to_dict()==dict(p1='rare', p2='common', p3='common', p4='missing')

@pytest.mark.parametrize('a,b,same', [('x/1.png','x/1.png',1), ('d/x/1.png','x/1.png',1), ('x/1.png','d/x/1.png',1), ('x/1.JPG','x/1.png',1),
                                      ('1.png','x/1.png',0), ('x/1.png','1.png',0), ('y/1.png','x/1.png',0), ('v/1.dcm#2','v/1.dcm#3',0)])
def test_a_bare_file_name_is_no_end_of_a_path(a, b, same):
    assert same_names(pd.Series([a]), pd.Series([b])).tolist()==[bool(same)]

def test_shares_hold_over_many_small_classes():
    "Of seven patients a fifth is one and owes the next class .4: twenty classes had given 20 patients in place of 28"
    df = pd.DataFrame([(f'/{c}-{i}', f'{c}-{i}', c) for c in 'abcdefghijklmnopqrst' for i in range(7)], columns=['path','patient','label'])
    for valid,test in ((.2,.2), (.3,.2), (.25,0)):
        n = split_patients(df, valid, test).split.value_counts().reindex(['valid','test'], fill_value=0)
        assert abs(n.valid-140*valid)<=1 and abs(n.test-140*test)<=1

def test_who_is_tied_stays_together():
    "Patients of one family, and families that share one, are on one side; who has none is alone"
    df = pd.DataFrame(dict(path=[f'/{i}' for i in range(120)], patient=[f'p{i:03}' for i in range(120)], label=['a','b']*60,
                           family=[f'f{i}' if i<40 else None for i in np.arange(120)//4]))
    df.loc[len(df)] = ['/x','p000','a','f9'] # ties the first family to the tenth
    sides = set()
    for seed in range(6):
        s = split_patients(df, seed=seed, groups='family')
        assert (s.groupby('family').split.nunique()==1).all() and s[s.family.isin(['f0','f9'])].split.nunique()==1
        assert split_patients(df, seed=seed, groups=df.family.tolist()).equals(s)
        sides.add(tuple(s.split[40:120]))
        assert 15<=(s.split=='test').sum()<=35
    assert len(sides)==6 # others are dealt one by one
    with pytest.raises(DataError, match='a value for each of its 121 rows'): split_patients(df, groups=['f0'])

def test_rare_classes_are_told(capsys):
    df = pd.DataFrame([(f'/{i}', f'p{i}', 'a' if i>1 else 'rare') for i in range(30)], columns=['path','patient','label'])
    split_patients(df)
    err = capsys.readouterr().err
    assert 'too few patients for one in each of train, test, valid: label rare' in err and 'dealt out better' not in err
    split_patients(df.assign(label=['a','b']*15))
    assert capsys.readouterr().err==''

def test_numbers_are_binned():
    df = pd.DataFrame({'path':[f'/{i}' for i in range(100)], 'patient':[f'p{i}' for i in range(100)],
        'age':np.linspace(20,90,100)})
    assert patient_strata(df, 'age').value_counts().to_dict()==dict.fromkeys('01234', 20)
    m = split_patients(df, by='age').groupby('split').age.agg(['mean','size'])
    assert m['size'].to_dict()=={'train':60,'valid':20,'test':20} and (m['mean']-55).abs().max()<6

@pytest.mark.parametrize('df,kw,why', [
    (pd.DataFrame({'patient':['a','b'], 'label':['x','y']}), {}, '2 patients are too few'),
        (pd.DataFrame({'patient':['a','b'], 'label':['x','x']}), {}, 'nothing to tell apart'),
    (pd.DataFrame({'patient':['a','a'], 'label':['x','y']}), {}, 'one patient'), (pd.DataFrame({'patient':['a',None,
        'c'], 'label':['x','y','y']}), {}, '1 of 3 rows have no patient'),
    (pd.DataFrame({'patient':list('abcd'), 'label':list('xyxy')}), dict(valid=.6, test=.4), 'must leave some'),
        (pd.DataFrame({'patient':list('abcd'), 'label':list('xyxy')}), dict(by='sex'), "no column 'sex'"),
    (pd.DataFrame({'label':list('xyxy')}), {}, "no column 'patient'")])
def test_split_refused(df, kw, why):
    with pytest.raises(DataError, match=why): split_patients(df, **kw)

def test_leaks_are_named():
    df = pd.DataFrame({'patient':['p20','p07','p11']*2+['p01'], 'split':['train']*3+['valid']*3+['test']})
    with pytest.raises(LeakError, match='^3 patients occur in both train and valid: p07, p11, p20$'): check_split(df)
    many = pd.DataFrame({'patient':[f'p{i:02}' for i in range(12)]*2, 'split':['train']*12+['test']*12})
    with pytest.raises(LeakError, match=r'12 patients occur in both train and test: .*p09, \.\.\.$'): check_split(many)
    nobody = pd.DataFrame(dict(patient=['a',None,'b',None], split=['train','train','test','test']), dtype=object)
    assert check_split(nobody) is nobody # who is not told is not the same
    with pytest.raises(LeakError, match='1 patient occurs'): check_split(df[~df.patient.isin(['p07','p11'])])

@pytest.fixture
def clinic(): return pd.DataFrame([(f'/data/x/{i}-{j}.png', f'p{i}', None,
    'AB'[i%2]) for i in range(20) for j in range(2)], columns=['path','patient','eye','label'])

def test_save_and_read_split(clinic, tmp_path):
    s = split_patients(clinic)
    f = save_split(s, tmp_path/'split.csv', '/data')
    t = pd.read_csv(f)
    assert f.read_bytes()==save_split(s.sample(frac=1, random_state=0), tmp_path/'mixed.csv', '/data').read_bytes()
    assert t.columns.tolist()==['path','patient','eye','split','label'] and not t['path'].str.startswith('/').any()
    moved = clinic.assign(path=clinic.path.str.replace('/data', '/mnt/other')).sample(frac=1, random_state=0)
    r = read_split(f, moved, '/mnt/other')
    assert r.sort_index().split.tolist()==s.split.tolist() and split_hash(r, '/mnt/other')==split_hash(s, '/data')
    assert split_hash(split_patients(clinic, seed=7), '/data')!=split_hash(s, '/data')
    with pytest.raises(DataError, match='1 of 40 images in .* are not in the data: x/0-0.png'): read_split(f,
        clinic[1:], '/data')
    with pytest.raises(DataError, match='1 of 41 images are not in'): read_split(f, pd.concat([clinic,
        clinic[:1].assign(path='/data/new.png')]), '/data')
    with pytest.raises(DataError, match='disagree on the patient of 2 of 40'): read_split(f,
        clinic.assign(patient=clinic.patient.replace('p3','p4')), '/data')
    pd.read_csv(f)[['path','split']].to_csv(tmp_path/'bare.csv', index=False)
    assert read_split(tmp_path/'bare.csv', clinic, '/data').split.tolist()==s.split.tolist()
    with pytest.raises(LeakError): read_split(tmp_path/'bare.csv', clinic.assign(patient='p0'), '/data')

@pytest.mark.parametrize('text,why', [('', 'not a readable CSV'), ('path,side\na,b\n', 'lacks the column split'),
    ('path,split\na,dev\n', "unknown split 'dev' of a"), ('path,split\na,train\na,test\n',
        'names files more than once: a')])
def test_bad_split_file(clinic, tmp_path, text, why):
    (tmp_path/'s.csv').write_text(text)
    with pytest.raises(DataError, match=why): read_split(tmp_path/'s.csv', clinic, '/data')
    with pytest.raises(DataError, match='does not exist'): read_split(tmp_path/'no.csv', clinic, '/data')

def test_published(clinic):
    leaky = clinic.assign(split=['train','test']*20)
    with pytest.raises(LeakError, match='published split leaks: 20 patients'): published_split(leaky)
    assert published_split(leaky, allow_leak=True).attrs['leak'] and 'leak' not in leaky.attrs, 'whoever goes on with it would not be warned'
    with pytest.raises(DataError, match='brings no split'): published_split(clinic)

def test_a_published_split_without_valid_gets_one_from_its_train_side(clinic, capsys):
    "by patients, and said; the test side stays"
    two = clinic.assign(split=clinic.patient.isin(['p1','p2']).map({True:'test', False:'train'}))
    two.attrs['leak'] = True
    df = check_split(with_valid(published_split(two)))
    assert set(df.split)=={'train','valid','test'} and (df.split=='test').equals(two.split=='test') and df.attrs['leak']
    assert 'has no validation side: ' in capsys.readouterr().err and with_valid(df) is df

def test_copies_are_known_by_their_bytes(tmp_path, capsys):
    eyes(tmp_path, [f'a/{k}.png' for k in range(12)])
    paths = [str(tmp_path/f'a/{k}.png') for k in range(12)]
    df = pd.DataFrame({'path':paths, 'patient':[f'p{k}' for k in range(12)], 'label':['a','b']*6})
    df.attrs['root'] = str(tmp_path/'a')
    s = split_patients(df)
    save_split(s, tmp_path/'run/split.csv')
    t = pd.read_csv(tmp_path/'run/split.csv').set_index('path')
    assert t.sha256.to_dict()=={f'{k}.png':sha256(paths[k]) for k in range(12)}
    short = save_split(s.assign(path=s.path.map(os.path.basename)), tmp_path/'short.csv', tmp_path/'a')
    assert short.read_bytes()==(tmp_path/'run/split.csv').read_bytes() # paths within the root are read there
    assert read_split(tmp_path/'run/split.csv', df).split.tolist()==s.split.tolist()
    (tmp_path/'b').mkdir()
    for k in range(12): shutil.copy(paths[k], tmp_path/f'b/c{k}.png')
    other = df.assign(path=[str(tmp_path/f'b/c{k}.png') for k in range(12)], patient=[f'q{k}' for k in range(12)])
    other.attrs['root'] = str(tmp_path/'b')
    with pytest.raises(LeakError, match=f"{(s.split!='test').sum()} patients of this data were trained on"):
        drop_seen_patients(other, tmp_path/'run')
    assert 'byte by byte, pictures that the net has seen' in capsys.readouterr().err
    assert len(drop_seen_patients(other[(s.split=='test').to_numpy()], tmp_path/'run'))==(s.split=='test').sum()

@pytest.mark.parametrize('of', [int,float,str])
def test_familiar_patients_are_known_by_number_or_text(tmp_path, of):
    "A split.csv is read as text, another table maybe not"
    df = pd.DataFrame(dict(path=[str(tmp_path/f'{k}.png') for k in range(9)], patient=list(map(str, range(9))), label=['a','b','b']*3))
    df.attrs['root'] = str(tmp_path)
    s = split_patients(df)
    save_split(s, tmp_path/'split.csv')
    other = df.assign(path=[str(tmp_path/f'x{k}.png') for k in range(9)], patient=[of(k) for k in range(9)])
    with pytest.raises(LeakError, match=f"{(s.split!='test').sum()} patients of this data were trained on: {s.patient[s.split!='test'].iloc[0]}"):
        drop_seen_patients(other, tmp_path)

def two_clinics(root):
    "Two sets of pictures under the same names, all of their people and bytes different"
    res = []
    for k,clinic in enumerate(('here','there')):
        (root/clinic).mkdir()
        df = pd.DataFrame(dict(path=[str(root/clinic/f'img_{i}.png') for i in range(12)], patient=[f'{clinic}{i}' for i in range(12)], label=['a','b']*6))
        for i,o in enumerate(df.path): Path(o).write_bytes(b'%d %d' % (k,i))
        df.attrs['root'] = str(root/clinic)
        res.append(df)
    return res

def test_another_clinic_with_the_same_file_names(tmp_path, capsys):
    "Most of it was taken for the training data and dropped"
    df,other = two_clinics(tmp_path)
    s = split_patients(df)
    save_split(s, tmp_path/'split.csv')
    assert len(drop_seen_patients(other, tmp_path))==12 and len(drop_seen_patients(other[:9], tmp_path))==9
    assert 'byte by byte' not in capsys.readouterr().err
    assert len(drop_seen_patients(df, tmp_path))==(s.split=='test').sum() and "data of the run's training" in capsys.readouterr().err
    again = df.assign(patient=[f'p{k}' for k in range(12)]) # other names of people, the same bytes
    again.attrs = df.attrs
    assert len(drop_seen_patients(again, tmp_path))==(s.split=='test').sum()
    alone = other.assign(patient=[f'img_{k}.png' for k in range(12)]) # where no patient is told, a name is all there is
    alone.attrs = other.attrs
    with pytest.raises(LeakError): drop_seen_patients(alone, tmp_path)

def test_pictures_saved_anew_under_their_names_are_the_data_of_the_run(tmp_path):
    "The same people: their test side is evaluated; where nobody is told the names alone do not say so"
    df = two_clinics(tmp_path)[0]
    def anew(t):
        s = split_patients(t)
        save_split(s, tmp_path/'split.csv')
        for o in t.path: Path(o).write_bytes(b'anew '+Path(o).read_bytes())
        return drop_seen_patients(t, tmp_path),s
    got,s = anew(df)
    assert got.patient.tolist()==s.patient[s.split=='test'].tolist()
    with pytest.raises(LeakError): anew(df.assign(patient=df.path.map(os.path.basename)))

@pytest.mark.parametrize('told', [0,6])
def test_pictures_saved_anew_are_still_the_same_eyes(tmp_path, told):
    "JPEG became PNG, capitals small: names and bytes were others, and nobody was familiar; also where some patients are told"
    df = two_clinics(tmp_path)[0]
    paths = [f'{tmp_path}/here/{"ab"[k%2]}/Eye{k}.JPG' for k in range(12)]
    df = df.assign(path=paths, patient=[f'{"ab"[k%2]}/Eye{k}.JPG' if k>=told else f'p{k}' for k in range(12)])
    df.attrs['root'] = str(tmp_path/'here')
    s = split_patients(df)
    save_split(s, tmp_path/'split.csv')
    new = df.path.str.lower().str.replace('jpg', 'png').str.replace(str(tmp_path/'here').lower(), str(tmp_path/'there'))
    other = df.assign(path=new, patient=[o[len(str(tmp_path/'there'))+1:] for o in new])
    other.attrs['root'] = str(tmp_path/'there')
    seen = (s.split!='test').to_numpy()
    with pytest.raises(LeakError, match=f'{seen.sum()} patients of this data were trained on'): drop_seen_patients(other, tmp_path)
    rest = other[~seen].copy()
    rest.attrs['root'] = str(tmp_path)
    assert len(drop_seen_patients(rest, tmp_path))==(~seen).sum()

def test_familiar_patients_are_known_without_zeros_and_as_digests(tmp_path):
    df,other = two_clinics(tmp_path)
    s = split_patients(df.assign(patient=[f'{k:05}' for k in range(12)]))
    save_split(s, tmp_path/'split.csv')
    seen = (s.split!='test').to_numpy()
    for who in ([str(k) for k in range(12)], [patient_digest(f'{k:05}') for k in range(12)]):
        t = other.assign(patient=who, path=other.path.str.replace('img', 'new'))
        t.attrs = other.attrs
        with pytest.raises(LeakError, match=f'{seen.sum()} patients of this data were trained on'): drop_seen_patients(t, tmp_path)
        assert len(drop_seen_patients(t[~seen], tmp_path))==(~seen).sum()

def dealt_digests(tmp_path, digest):
    "Two clinics of other pictures and names of files, the first dealt under the digests of 12 numbers"
    df,other = two_clinics(tmp_path)
    s = split_patients(df.assign(patient=[digest(f'A{k:05}') for k in range(12)]))
    save_split(s, tmp_path/'split.csv')
    return s,other.assign(path=other.path.str.replace('img', 'new')),(s.split!='test').to_numpy()

def judged(other, who, run, **kwargs):
    t = other.assign(patient=who)
    t.attrs = other.attrs
    return drop_seen_patients(t, run, **kwargs)

@pytest.mark.parametrize('mine,his', [(None,None), (None,'A'), ('A',None), ('A','A')])
def test_digests_of_one_issuer_or_none_are_the_same_people(tmp_path, mine, his):
    "A table tells no issuer, and a number may have lost its zeros; two issuers have two people"
    s,other,seen = dealt_digests(tmp_path, lambda o: patient_digest(o, his))
    for who in ([patient_digest(f'a{k}', mine) for k in range(12)], [f'A{k:03}' for k in range(12)]):
        with pytest.raises(LeakError, match=f'{seen.sum()} patients of this data were trained on'): judged(other, who, tmp_path)
    if his: assert len(judged(other, [patient_digest(f'A{k}', 'B') for k in range(12)], tmp_path))==12

def test_digests_of_earlier_versions_are_still_known(tmp_path):
    "They were of the number as it was written, and no key was told"
    s,other,seen = dealt_digests(tmp_path, lambda o: pseudonym(o, patient_key()))
    t = pd.read_csv(tmp_path/'split.csv', dtype=str)
    t.drop(columns='key').to_csv(tmp_path/'split.csv', index=False)
    for who in ([patient_digest(f'A{k:05}', issuer) for k in range(12)] for issuer in (None,'A')):
        with pytest.raises(LeakError, match=f'{seen.sum()} patients of this data were trained on'): judged(other, who, tmp_path)
        again = s.assign(patient=who)
        assert read_split(tmp_path/'split.csv', again, tmp_path/'here').split.tolist()==s.split.tolist()
    with pytest.raises(DataError, match='disagree on the patient of 12'):
        read_split(tmp_path/'split.csv', s.assign(patient=[patient_digest(f'C{k:05}') for k in range(12)]), tmp_path/'here')

def test_digests_of_another_key_are_refused(tmp_path, monkeypatch):
    "The same patients went for strangers on another computer, and the report said that none had been seen"
    monkeypatch.setenv('FUNDUS_PATIENT_KEY', str(tmp_path/'one.key'))
    s,other,seen = dealt_digests(tmp_path, patient_digest)
    monkeypatch.setenv('FUNDUS_PATIENT_KEY', str(tmp_path/'two.key'))
    assert set(pd.read_csv(tmp_path/'split.csv', dtype=str).key.str.len())=={8}
    for who in ([patient_digest(f'A{k:05}') for k in range(12)], [f'A{k:05}' for k in range(12)]):
        with pytest.raises(DataError, match="another key .*bring that computer's patients.key.*FUNDUS_PATIENT_KEY.*allow_leak=True"): judged(other, who, tmp_path)
        assert len(judged(other, who, tmp_path, allow_leak=True))==12
    with pytest.raises(DataError, match='split.csv: its patients were called by another key'):
        read_split(tmp_path/'split.csv', s.assign(patient=[patient_digest(f'A{k:05}') for k in range(12)]), tmp_path/'here')
    assert len(judged(other, [Path(o).name for o in other.path], tmp_path))==12, 'nobody is told: names are compared'
    with pytest.raises(DataError, match='another key'): judged(other, [Path(other.path[0]).name, *(f'A{k:05}' for k in range(1, 12))], tmp_path)
    assert len(drop_seen_patients(s, tmp_path))==(~seen).sum(), 'the data of the run, by its bytes'
    monkeypatch.setenv('FUNDUS_PATIENT_KEY', str(tmp_path/'one.key'))
    with pytest.raises(LeakError): judged(other, s.patient.tolist(), tmp_path)

@pytest.mark.parametrize('one,other', [(7,'7'), (7.,'7'), (12345678,'12345678')])
def test_a_patient_has_one_name(one, other):
    "A number in one table and text in the other would be two people"
    df = pd.DataFrame(dict(path=list('abcdef'), patient=[one,8,9,other,'A1','A2'], label=list('xyxyxy'), split=['train']*3+['test']*3))
    for ask in (check_split, split_patients, audit):
        with pytest.raises(DataError, match=f'patient {other} is a number in some rows and text in others'): ask(df)
    assert check_split(df.assign(patient=[one,8,9,'B1','A1','A2'])) is not None

def aged(n, ages=None):
    "A frame of `n` patients with two images each, and an age"
    ages = np.linspace(30, 80, n).round() if ages is None else ages
    return pd.DataFrame(dict(path=[f'/x/{i}.png' for i in range(2*n)], patient=np.repeat([f'p{i:02}' for i in range(n)], 2), label=np.repeat(ages, 2)))

@pytest.mark.parametrize('n,sides', [(3,(1,1,1)), (4,(2,1,1)), (8,(4,2,2)), (10,(6,2,2)), (12,(8,2,2)), (15,(9,3,3)), (25,(15,5,5))])
def test_few_ages_are_numbers(n, sides):
    "Of ten patients and fewer it was said that a class of at least three is needed; of twelve, four were left to train"
    got = split_patients(aged(n)).groupby('split').patient.nunique()
    assert tuple(got[['train','valid','test']])==sides

def test_few_different_numbers_are_numbers_and_grades_are_classes():
    assert patient_strata(aged(10, [20.,40.]*5)).nunique()==2 and set(patient_strata(aged(10, [2.,4.]*5)))=={'2.0','4.0'}
    assert set(patient_strata(aged(10, [True,False]*5)))=={'True','False'}
    g = split_patients(aged(40, np.arange(40)%5))
    assert (g.groupby(['label','split']).size().unstack()[['test','train','valid']]//2>0).all(axis=None)

@pytest.mark.parametrize('kw,why', [(dict(seed=-1), '`seed` is to be at least 0'), (dict(seed=1.5), 'whole number'), (dict(valid='a'), 'shares of the patients'),
    (dict(test=float('nan')), 'shares of the patients'), (dict(by=['label']), 'no column'), (dict(groups=5), 'groups is a column'), (dict(groups=[[1]]*24), 'groups is a column')])
def test_odd_options(kw, why):
    with pytest.raises(DataError, match=why): split_patients(aged(12), **kw)

@pytest.mark.parametrize('f', [split_patients, check_split, published_split, lambda df: save_split(df, '/nowhere', '/x'), lambda df: read_split(__file__, df, '/x')])
def test_no_table(f):
    for o in (None, [1], {}, np.zeros(3)):
        with pytest.raises(DataError): f(o)

def test_columns_of_other_types(tmp_path):
    "Nullable text and categorical patients: a split could not be saved, ties broke off"
    df = aged(12)
    for o in (df.convert_dtypes(), df.assign(patient=df.patient.astype('category'))):
        a,b = (split_patients(x, groups=np.arange(24)//4) for x in (df,o))
        assert (a.split==b.split).all()
        files = [save_split(x, tmp_path/f'{i}.csv', '/x', labels='label') for i,x in enumerate((a,b))]
        assert (read_split(files[1], o, '/x').split==a.split).all() and split_hash(a, '/x')==split_hash(b, '/x')
    with pytest.raises(DataError, match='1 of 24 rows have no path'):
        save_split(split_patients(df.assign(path=df.path.where(df.index>0, None))), tmp_path/'s.csv', '/x')

@pytest.mark.parametrize('by', ['age','kind'])
@pytest.mark.parametrize('groups', [None, 'site'])
def test_a_patient_is_dealt_by_name_not_by_type(by, groups):
    "Read by pandas patients are numbers, by `read_csv` text: the same table had other patients in the test"
    who = np.repeat(np.arange(8, 48), 2)
    df = pd.DataFrame(dict(path=[f'/x/{i}.png' for i in range(80)], patient=who, age=20.+who*7%61,
                           kind=np.array(list('abc'))[who%3], site=who//3))
    sides = [split_patients(df.assign(patient=o), by=by, groups=groups) for o in (who, who.astype(float), who.astype(str))]
    mixed = split_patients(df.sample(frac=1, random_state=1), by=by, groups=groups).sort_index()
    for o in (*sides[1:],mixed): assert (o.split==sides[0].split).all()
    assert sides[0].patient.tolist()==who.tolist()

"What people write in cells: look-alikes, nothing, eyes, sexes, ages"
import unicodedata
import pandas as pd, pytest
from fundus_fastai.words import (age_of, as_ages, as_sexes, by_words, column_key, eye_words, grade_words, likeness,
                                 one_spelling, says_nothing, sex_words, word)

@pytest.mark.parametrize('a,b', [('7','7.0'), ('7','007'), ('P01','p01'), ('P01','P1'), ('CNV','cnv '), ('two  words','Two words'),
    ('é', unicodedata.normalize('NFD', 'é')), ('Ä', unicodedata.normalize('NFD', 'ä')), ('0','00')])
def test_look_alikes(a, b): assert likeness(a)==likeness(b)

@pytest.mark.parametrize('a,b', [('7','70'), ('1.1','1.10'), ('a1','a11'), ('dry','wet'), ('0',''), ('0.05','0.5'), ('60.05','60.5'), ('0,05','0,5'), ('1.02','1.2')])
def test_what_does_not_look_alike(a, b): assert likeness(a)!=likeness(b)

def test_the_commonest_spelling_stays_and_is_told(capsys):
    s = pd.Series(['cnv','CNV','CNV','DME',None])
    assert one_spelling(s, 'classes').tolist()[:4]==['CNV']*3+['DME'] and one_spelling(s, 'classes').isna().sum()==1
    assert "'cnv' (1) as 'CNV'" in capsys.readouterr().err
    assert one_spelling(s[2:], 'classes').tolist()[:2]==['CNV','DME'] and capsys.readouterr().err==''

def test_nothing_is_said():
    s = pd.Series(['','?','-','--','.','#N/A','n.a.','k.A.','k. A.','Unknown','MISSING','TBD','New folder','None','AMD','x',None])
    assert s[~says_nothing(s)].tolist()==['None','AMD','x']
    assert says_nothing(pd.Series(['x','poor quality','Ungradable']), gradable=True).all()

@pytest.mark.parametrize('text,years', [('61',61), ('061Y',61), ('50,5',50.5), ('50.5',50.5), (' 61 years ',61), ('61 yrs.',61), ('18M',1.5), ('61 y.o.',None),
    ('>89',None), ('90+',None), ('60-69',None), ('?',None), ('unknown',None), ('',None), ('-5',None), ('1,234',1.234),
    ('18 months',1.5), ('6 mo',.5), ('1 month',1/12), ('26.09w',.5), ('73.05 D',.2), ('61 Jahre',61), ('3 ponies',None)])
def test_ages(text, years):
    got = age_of(text)
    assert got!=got if years is None else got==pytest.approx(years)

def test_what_is_no_age_is_counted_and_shown(capsys):
    got = as_ages(pd.Series(['61','>89','60-69','','121','nan']))
    assert got.isna().tolist()==[False]+[True]*5 and '3 of 6 ages are no age (>89, 60-69, 121)' in capsys.readouterr().err

@pytest.mark.parametrize('cells,want', [('F M', 'female male'), ('Female MALE', 'female male'), ('w m', 'female male'),
    ('H M', 'male female'), ('H F', 'male female'), ('H M F', 'male male female'), ('0 1', '0 1'), ('Frau männlich', 'female male')])
def test_sexes(cells, want): assert as_sexes(pd.Series(cells.split(), name='sex')).tolist()==want.split()

def test_the_newborn_have_an_age(capsys):
    assert as_ages(pd.Series(['0','6M','120',''])).fillna(-1).tolist()==[0,.5,120,-1] and capsys.readouterr().err==''

def test_men_as_hombres_are_told(capsys):
    "M beside H alone may be mujer; beside F nobody need be told"
    as_sexes(pd.Series(['H','M'], name='sexo'))
    assert "the column 'sexo' has H for men: M is read as mujer" in capsys.readouterr().err
    for cells in (['H','M','F'],['H','W'],['M','F']): as_sexes(pd.Series(cells, name='sexo'))
    assert capsys.readouterr().err==''

def test_a_sex_nobody_knows_is_told(capsys):
    assert as_sexes(pd.Series(['F','other','']))[1:].isna().all()
    assert '1 of 3 values' in capsys.readouterr().err
    assert as_sexes(pd.Series(['F','0','1','1'])).fillna('').tolist()==['female','','',''] # a code among words is none
    assert '3 of 4 values' in (err := capsys.readouterr().err) and err.endswith('left empty: 0, 1\n')

def test_eyes_and_columns(capsys):
    s = by_words(pd.Series(['OD','o.s.','Left eye','rechts','both',''], name='eye'), eye_words, 'eye')
    assert s.tolist()==['R','L','L','R',None,None] and "1 of 6 values of the column 'eye' are no known eye and are left empty: both\n" in capsys.readouterr().err
    assert len({column_key(o) for o in ('Patient ID','patient-id','PATIENT_ID','patientid')})==1

def test_words_are_written_as_they_are_looked_up():
    for o in (eye_words,sex_words,grade_words): assert [k for k in o if word(k)!=k]==[]

def test_words_of_german_clinics():
    from fundus_fastai.words import says_normal
    assert says_normal('o.B.') and says_normal('Unauffällig') and not says_normal('auffällig')
    assert says_nothing(pd.Series(['anonym','Anonymous','Anna'])).tolist()==[True,True,False]
    assert says_nothing(pd.Series(['unklar','DR']), gradable=True).tolist()==[True,False]
    assert as_sexes(pd.Series(['Herr','Frau'], name='Anrede')).tolist()==['male','female']

// Texts in the scripts of the world, and as many characters of them as a test wants.
export const SCRIPTS = {
  Latin: 'Größe, naïveté, Łódź, İstanbul',
  Greek: 'Καλημέρα κόσμε',
  Cyrillic: 'Съешь же ещё этих мягких французских булок',
  Arabic: 'مَرْحَبًا بِالعالَم، كَيفَ الحال؟',
  Hebrew: 'שָׁלוֹם עולם',
  Devanagari: 'नमस्ते दुनिया, क्षत्रिय',
  Bengali: 'ওহে বিশ্ব',
  Tamil: 'வணக்கம் உலகம்',
  Thai: 'สวัสดีชาวโลก น้ำ',
  Tibetan: 'བཀྲ་ཤིས་བདེ་ལེགས།',
  Khmer: 'សួស្តី​ពិភពលោក',
  Ethiopic: 'ሰላም ልዑል',
  Georgian: 'გამარჯობა მსოფლიო',
  Javanese: 'ꦱꦸꦒꦼꦁ ꦫꦮꦸꦃ',
  Chinese: '你好，世界。漢字與汉字',
  'Chinese beyond the BMP': '𠀀𠮷𡃁𪚥',
  Japanese: 'こんにちは世界 カタカナ',
  Korean: '안녕하세요 세계',
  'combining marks': 'Z̸̡̛͎a̶͚͝l̷g̴o̵ e\u0301\u0323',
  emoji: '👩‍👩‍👧‍👦🏳️‍🌈👍🏽🚀',
  mathematics: '𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ∑∫√∞',
  'noncharacters and controls': '\ufffe\u200f\u202e\u0001\u001b\u007f\t\r\n',
};

// Exactly n characters (code points), of the sample repeated.
export function characters(sample, n) {
  const one = [...sample];
  return Array.from({ length: n }, (_, i) => one[i % one.length]).join('');
}

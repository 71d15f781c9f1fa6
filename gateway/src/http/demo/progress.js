import { placeholder } from './page.js';
placeholder();
